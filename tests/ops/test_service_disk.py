"""Services that start on a full disk, as after a reboot: they come back once there is room."""

from __future__ import annotations

import subprocess

import pytest
from service_world import clean_environment, furnisync, present_sandbox
from support.small_disk import SmallDisk

from furnisync.cli.services import EXIT_AGAIN
from furnisync.ops.service.service import JOBS
from furnisync.sandbox.process import SandboxProcess


@pytest.fixture
def disk(tmp_path):
    disk = SmallDisk(tmp_path / "home", size_mb=20)
    yield disk
    disk.close()


def run(
    disk: SmallDisk, sandbox: SandboxProcess, *arguments: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        disk.inside(furnisync(*arguments), disk.at),
        env={**clean_environment(), **sandbox.env, "FURNISYNC_HOME": str(disk.at)},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_a_start_without_room_is_worth_another(disk):
    """With the status of what only the user can repair, systemd would not start them again."""
    with present_sandbox() as sandbox:
        (disk.seen / "furnisync.toml").write_text("[images]\nmin_free_mb = 0\n")
        assert run(disk, sandbox, "images", "--fast").returncode == 0
        assert run(disk, sandbox, "data", "--fast").returncode == 0
        disk.fill()
        for job in JOBS:
            ended = run(disk, sandbox, "service", "run", job)
            assert ended.returncode == EXIT_AGAIN, ended.stdout + ended.stderr
            by_hand = run(disk, sandbox, job, "--slow")
            assert by_hand.returncode == 2
            assert "there is no room on its disk" in by_hand.stderr
            assert "Traceback" not in by_hand.stdout + by_hand.stderr
        disk.free()
        for job in JOBS:
            assert "Traceback" not in (disk.seen / "logs" / f"{job}.log").read_text()
            assert run(disk, sandbox, job, "--fast").returncode == 0
