"""A home moves to another computer by the very lines of docs/operations.md, and nothing is lost."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from remote_world import start_box
from service_world import clean_environment, present_sandbox, start_systemd

from furnisync.sandbox.process import SandboxProcess

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")
SMALL = {"shops": 6, "listings": 40, "images_mean": 2, "image_bytes": 2000, "pictures": 3}


def lines_after(words: str, block: int = 0) -> list[str]:
    """The lines of the page's code block that comes after some words, without their comments."""
    part = PAGE.split(words, 1)[1]
    code = re.findall(r"^```bash\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)[block]
    return [line.split(" #")[0].strip().split("    ")[0] for line in code.splitlines()]


@pytest.fixture(scope="module")
def sandbox():
    with present_sandbox(**SMALL) as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def _rsync():
    if shutil.which("rsync") is None:
        pytest.skip("no rsync here")


class Folder:
    """A project folder that is a home too; `furnisync`, `make` and ssh as its user has them."""

    def __init__(self, path: Path, ssh_config: Path | None = None) -> None:
        self.path = path
        self.ssh_config = ssh_config
        self.programs = path.parent / f"{path.name}-bin"
        for folder in (path, self.programs):
            folder.mkdir(parents=True)
        program = f'exec "{sys.executable}" -m furnisync "$@"'
        # Whether services can run here is for other tests; here they would only be in the way.
        self.put("furnisync", f'[ "$1" = service ] && exit 0\n{program}')
        self.put("make", "exit 0")
        for name in ("ssh",) if ssh_config else ():
            self.put(name, f'exec {shutil.which(name)} -F "{ssh_config}" "$@"')

    def put(self, name: str, body: str) -> None:
        (self.programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (self.programs / name).chmod(0o755)

    def run(self, line: str, **env: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.programs}:{os.environ['PATH']}"
        config = {} if self.ssh_config is None else {"FURNISYNC_SSH_CONFIG": str(self.ssh_config)}
        return subprocess.run(
            ["/bin/sh", "-c", line], cwd=self.path, text=True, check=False, timeout=250,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**clean_environment(), "PATH": path, "PYTHONPATH": str(ROOT), **config, **env},
        )  # fmt: skip

    def follow(self, lines: list[str], may_fail: str = "nothing") -> dict[str, str]:
        told = {}
        for line in lines:
            ended = self.run(line)
            assert ended.returncode == 0 or may_fail in line, f"{line}:\n{ended.stdout}"
            told[line] = ended.stdout
        return told

    def counts(self) -> dict[str, int]:
        found = {}
        for name, table in (
            ("catalog.db", "listings"), ("catalog.db", "images"), ("etsy_data.db", "listings"),
            ("etsy_data.db", "reviews"), ("etsy_data.db", "sync_state"),
        ):  # fmt: skip
            with closing(sqlite3.connect(f"file:{self.path / name}?mode=ro", uri=True)) as one:
                found[f"{name} {table}"] = one.execute(f"SELECT count(*) FROM {table}").fetchone()[
                    0
                ]
        return found


def make_home(folder: Folder, sandbox: SandboxProcess) -> Folder:
    """A home with everything of a small Etsy."""
    values = "".join(f"{name}={value}\n" for name, value in sandbox.env.items())
    (folder.path / ".env").write_text(values)
    (folder.path / ".env").chmod(0o600)
    (folder.path / "furnisync.toml").write_text(
        'images.min_free_mb = 0\ndata.buyer_user_id = "hash"\n'
    )
    for job in ("images", "data"):
        ended = folder.run(f"furnisync {job} --fast")
        assert ended.returncode == 0, ended.stdout
    return folder


def check_moved(folder: Folder, before: dict[str, int], sandbox: SandboxProcess) -> None:
    """All is there, and neither program asks or fetches anything again."""
    assert folder.counts() == before
    assert (folder.path / ".env").stat().st_mode & 0o077 == 0
    asked = sandbox.asked()
    for job in ("images", "data"):
        ended = folder.run(f"furnisync {job} --fast")
        assert ended.returncode == 0, ended.stdout
    assert sandbox.asked() == asked
    assert folder.counts() == before
    assert (folder.path / "image_metadata.json").stat().st_size > 1000


def test_with_a_disk_between(tmp_path, sandbox):
    old = make_home(Folder(tmp_path / "old"), sandbox)
    before = old.counts()
    stick = tmp_path / "stick"
    stick.mkdir()
    there = [line.replace("/Volumes/stick", str(stick)) for line in lines_after("**With a disk")]
    here = [line.replace("/Volumes/stick", str(stick)) for line in lines_after("**With a disk", 1)]
    old.follow(there)
    new = Folder(tmp_path / "new")
    told = new.follow(here)
    assert "all correct" in told["furnisync verify"]
    assert "key     ok" in told["furnisync doctor"] or "Etsy accepts it" in told["furnisync doctor"]
    key = (new.path / ".buyer_key").read_bytes()
    assert key == (old.path / ".buyer_key").read_bytes()
    check_moved(new, before, sandbox)
    # As the upkeep says: a restore is tried beside, and leaves the home as it is.
    trial = [
        line.replace("/Volumes/stick", str(stick)).replace("/tmp/try", str(tmp_path / "try"))
        for line in lines_after("## Upkeep")
    ]
    assert "40 active" in new.follow(trial)[trial[1]]
    assert new.counts() == before


@pytest.mark.slow
def test_over_ssh_there_and_back(tmp_path, sandbox):
    """The other computer is a real sshd of this machine with a systemd of its own."""
    there = tmp_path / "there"
    there.mkdir()
    systemd = start_systemd(there)
    box = start_box(tmp_path, systemd)
    try:
        box.config.write_text(box.config.read_text().replace("Host box", "Host imac"))
        old = make_home(Folder(tmp_path / "old", box.config), sandbox)
        before = old.counts()

        def at_home(lines: list[str]) -> list[str]:
            """Its home is not that of this machine's user, where ssh would begin."""
            home = f"{there}/furnisync"
            return [
                line.replace("imac:furnisync", f"imac:{home}").replace(
                    "'cd furnisync", f"'cd {home}"
                )
                for line in lines
            ]

        lines = at_home(lines_after("**Over ssh, from the old one"))
        cut = lines.index("furnisync remote imac setup") + 1
        told = old.follow(lines[:cut], may_fail="remote imac setup")
        assert ".env" in told["furnisync remote imac setup"]  # the key is missing there
        program = there / "furnisync" / "venv" / "bin" / "furnisync"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m furnisync "$@"\n')
        program.chmod(0o755)
        told = old.follow(lines[cut:])
        assert "images: installed and running" in told["furnisync remote imac start"]
        assert "40 active" in told["furnisync remote imac status"]
        back = Folder(tmp_path / "back", box.config)
        told = back.follow(at_home(lines_after("**Over ssh, from `imac`")))
        assert "all correct" in told["furnisync verify"]
        check_moved(back, before, sandbox)
    finally:
        box.close()
        systemd.close()
