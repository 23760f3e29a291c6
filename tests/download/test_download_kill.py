"""`kill -9` at any instant: what lies under a final name is whole."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from support.faulty_cdn import numbered

import furnisync
from furnisync.store.folder import FolderStore

CHILD = """
import sys
from pathlib import Path
from furnisync.clock import SystemClock
from furnisync.download.downloader import Downloader
from furnisync.download.limits import DownloadLimits
from furnisync.image_job import ImageJob
from furnisync.store.folder import FolderStore

root, host = Path(sys.argv[1]), sys.argv[2]
limits = DownloadLimits(4, 0.0, 10**7, 10**8, 20.0, frozenset({host}), "killed")
downloader = Downloader(FolderStore(root), limits, SystemClock())
while True:
    downloader.submit(ImageJob(n, n, f"http://{host}/numbered/{n}") for n in range(20))
    while downloader.waiting or downloader.active:
        for outcome in downloader.poll(1.0):
            assert outcome.result == "done", outcome
            print(outcome.file, flush=True)
"""


def test_no_partial_file_under_a_final_name(tmp_path, cdn):
    root, dice = tmp_path / "images", random.Random(11)
    bodies = {f"{n:03d}/{n}_{n}.png": numbered(n) for n in range(20)}
    environment = {**os.environ, "PYTHONPATH": str(Path(furnisync.__file__).parent.parent)}
    for _ in range(10):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(root), cdn.host],
            stdout=subprocess.PIPE,
            env=environment,
        )
        told = [child.stdout.readline().decode().strip() for _ in range(dice.randint(1, 30))]
        child.send_signal(signal.SIGKILL)
        told += child.communicate(timeout=10)[0].decode().split("\n")[:-1]
        assert child.returncode == -signal.SIGKILL
        found = {
            os.fspath(path.relative_to(root)): path.read_bytes() for path in root.glob("[0-9]*/*")
        }
        for name, body in found.items():
            assert body == bodies[name], f"{name} is not whole"
        # An outcome is told only once its file is there.
        assert set(told) <= set(found)
    FolderStore(root).put(1, 1, "jpg", b"x")
    assert list((root / ".partial").iterdir()) == []
