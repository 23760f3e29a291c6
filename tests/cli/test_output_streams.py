"""Standard output closed, full or a broken pipe: the work is done, the exit status is the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import ROOT
from support.sync_world import Home, small_sandbox

FULL = Path("/dev/full")

pytestmark = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")

COMMANDS = {
    "version": 0,
    "status": 0,
    "status --json": 0,
    "coverage": 0,
    "coverage --json": 0,
    "doctor": 0,
    "verify": 0,
    "purge --older-than 0": 2,
    "no-such-command": 2,
}


@pytest.fixture(scope="module")
def sandbox():
    with small_sandbox(shops=3, listings=12) as found:
        yield found


@pytest.fixture(scope="module")
def synced(tmp_path_factory, sandbox):
    home = Home(tmp_path_factory.mktemp("streams") / "home", sandbox)
    assert home.sync("--fast").status == 0
    return home


def closed():
    os.close(1)
    os.close(2)


def run_with(output, home, *arguments):
    """The exit status of a command whose standard output and error are in that state."""
    command = [sys.executable, *arguments]
    options = {"cwd": ROOT, "env": home.environment(), "stdin": subprocess.DEVNULL, "timeout": 120}
    if output == "closed":
        return subprocess.run(command, check=False, preexec_fn=closed, **options).returncode
    if output == "full":
        stream = FULL.open("wb")
    else:
        read, write = os.pipe()
        os.close(read)
        stream = os.fdopen(write, "wb")
    with stream:
        ended = subprocess.run(command, check=False, stdout=stream, stderr=stream, **options)
    return ended.returncode


@pytest.mark.parametrize("output", ["closed", "full", "gone"])
def test_a_command_ends_as_it_would(synced, output):
    for command, status in COMMANDS.items():
        assert run_with(output, synced, "-m", "furnisync", *command.split()) == status, command


@pytest.mark.parametrize("unbuffered", [True, False])
@pytest.mark.parametrize("output", ["closed", "full", "gone"])
def test_a_sync_is_complete(tmp_path, sandbox, output, unbuffered):
    home = Home(tmp_path / "home", sandbox)
    flags = ["-u"] if unbuffered else []
    assert run_with(output, home, *flags, "sync_images.py", "--fast") == 0
    expected = sum(1 for row in sandbox.truth_images() if row["findable"])
    assert home.number("SELECT count(*) FROM images WHERE status = 'done'") == expected
    assert run_with(output, home, *flags, "sync_data.py", "--fast") == 0
