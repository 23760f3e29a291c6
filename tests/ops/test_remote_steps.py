"""Each step on another computer over a real sshd: done, broken in the middle, repeated."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from remote_world import PART_BYTES, Box, start_box
from service_world import clean_environment, present_sandbox, start_systemd, until

from furnisync.sandbox.process import SandboxProcess

FOLDER = "~/öur folder's $HOME"
REPEAT = "run the same command again"


@pytest.fixture(scope="module")
def sandbox():
    with present_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def box(tmp_path):
    box = start_box(tmp_path)
    yield box
    box.close()


@pytest.fixture
def served_box(tmp_path):
    """A box with a systemd."""
    there = tmp_path / "there"
    there.mkdir()
    systemd = start_systemd(there)
    box = start_box(tmp_path, systemd)
    yield box
    box.close()
    systemd.close()


def there(box: Box) -> Path:
    return box.user_home / FOLDER[2:]


def put_key(box: Box, sandbox: SandboxProcess) -> None:
    """As the user does once: `.env` beside the code."""
    values = "".join(f"{name}={value}\n" for name, value in sandbox.env.items())
    (there(box) / ".env").write_text(values)
    (there(box) / "furnisync.toml").write_text(
        "[images]\nmin_free_mb = 0\n[quota]\nslow_per_second = 20\n"
    )


@pytest.mark.slow
def test_setup_update_and_services(served_box, sandbox):
    box = served_box
    # Without a key there all is laid out but the services, and it says so.
    first = box.remote("setup", "images", "--dir", FOLDER)
    assert first.returncode == 2, first.stdout + first.stderr
    assert str(there(box) / ".env") in first.stderr
    assert "furnisync remote box start" in first.stderr
    assert (there(box) / "furnisync" / "cli" / "app.py").exists()
    assert not list(there(box).rglob("__pycache__/*.tmp"))
    names = {path.name for path in there(box).iterdir()}
    assert not names & {"tests", ".git", ".furnisync-update", ".furnisync-setup.lock"}

    put_key(box, sandbox)
    broken, words = box.remote_broken(
        "python", "start", "images", "--dir", FOLDER, word="service install"
    )
    assert broken == 2
    assert REPEAT in words
    box.repair()
    started = box.remote("start", "images", "--dir", FOLDER)
    assert started.returncode == 0, started.stderr
    assert "images: installed and running" in started.stdout

    until(lambda: any(there(box).glob("images/*/*")))
    status = box.remote("status", "--dir", FOLDER)
    assert status.returncode == 0, status.stdout + status.stderr
    assert "running for" in status.stdout
    assert "images" in status.stdout
    logs = box.remote("logs", "images", "-n", "100", "--dir", FOLDER)
    assert "the images service starts" in logs.stdout
    for command, word in (("status", "service status"), ("logs", "service logs")):
        broken, words = box.remote_broken("python", command, "--dir", FOLDER, word=word)
        assert (broken, REPEAT in words) == (2, True)
        box.repair()

    (there(box) / "furnisync" / "left_over.py").write_text("old = 1\n")
    updated = box.remote("update", "--dir", FOLDER)
    assert updated.returncode == 0, updated.stderr
    assert "images: running" in updated.stdout
    assert not (there(box) / "furnisync" / "left_over.py").exists()
    assert (there(box) / "catalog.db").exists()
    assert (there(box) / ".env").exists()

    broken, words = box.remote_broken(
        "python", "stop", "images", "--dir", FOLDER, word="service stop"
    )
    assert (broken, REPEAT in words) == (2, True)
    box.repair()
    stopped = box.remote("stop", "images", "--dir", FOLDER)
    assert stopped.returncode == 0, stopped.stderr
    assert "stopped" in stopped.stdout


def test_code_that_arrived_in_part_changes_nothing(box):
    assert_no_services(box.remote("setup", "--dir", FOLDER))
    marked = there(box) / "furnisync" / "__init__.py"
    marked.write_text('"""The old one."""\n__version__ = "0"\n')
    broken, words = box.remote_broken("rsync", "update", "--dir", FOLDER)
    assert broken == 2
    assert "could not put the code there" in words
    assert REPEAT in words
    assert "The old one" in marked.read_text()
    box.repair()
    updated = box.remote("update", "--dir", FOLDER)
    assert updated.returncode == 0
    assert "No service was restarted." in updated.stdout
    assert "The old one" not in marked.read_text()
    assert not (there(box) / ".furnisync-update").exists()


SYSTEMCTL = """#!/bin/sh
case "$*" in
  --version) echo "systemd 255" ;;
  *" show furnisync"*) echo ActiveState=active; echo MainPID=1 ;;
  *" start "*) echo "no room for the copy" >&2; exit 1 ;;
esac
"""


def test_a_service_that_does_not_start_after_an_update_is_an_error(box):
    assert_no_services(box.remote("setup", "--dir", FOLDER))
    (box.programs / "systemctl").write_text(SYSTEMCTL)
    (box.programs / "systemctl").chmod(0o755)
    unit = box.user_home / ".config" / "systemd" / "user" / "furnisync-images.service"
    unit.parent.mkdir(parents=True)
    unit.write_text(f'[X-Furnisync]\nHome="{there(box)}"\n')
    ended = box.remote("update", "--dir", FOLDER)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert "no room for the copy" in ended.stderr


@pytest.mark.slow
def test_an_environment_that_broke_off_is_made_again(box):
    broken, words = box.remote_broken("make", "setup", "--dir", FOLDER)
    assert broken == 2
    assert "could not make the environment" in words
    assert REPEAT in words
    assert (there(box) / ".furnisync-setup.lock").is_symlink(), "it goes on there"
    # As an interrupted venv looks: an interpreter that has no pip.
    (there(box) / "venv" / "bin").mkdir(parents=True)
    (there(box) / "venv" / "bin" / "python").symlink_to("/bin/false")
    box.mend_soon(3)
    began = time.monotonic()
    assert_no_services(box.remote("setup", "--dir", FOLDER))
    assert time.monotonic() - began > 2, "it waited for the first one"
    assert not (there(box) / ".furnisync-setup.lock").exists()
    assert (there(box) / "venv" / "made").read_text().startswith("made by PYTHON=/")


def assert_no_services(ended: subprocess.CompletedProcess[str]) -> None:
    """All done but the services: this box has no key and no systemd."""
    assert ended.returncode == 2
    assert "Code and environment are installed" in ended.stderr, ended.stdout + ended.stderr


def test_setup_installs_the_extras_that_are_here_and_no_development_tools(box):
    ended = box.remote("setup", "--dir", FOLDER)
    assert_no_services(ended)
    assert "with the extras analysis, notices, urls as here" in ended.stdout
    (asked,) = (there(box) / "venv" / "pip").read_text().splitlines()
    assert asked.endswith("--constraint requirements-dev.lock furnisync[analysis,notices,urls]")
    assert not (there(box) / "tests").exists()


def test_a_lock_of_a_dead_setup_is_taken_over(box):
    there(box).mkdir()
    gone = subprocess.Popen(["true"])
    gone.wait()
    (there(box) / ".furnisync-setup.lock").symlink_to(str(gone.pid))
    assert_no_services(box.remote("setup", "--dir", FOLDER))


def test_a_folder_of_something_else_is_refused(box):
    there(box).mkdir()
    (there(box) / "README.md").write_text("another project")
    refused = box.remote("setup", "--dir", FOLDER)
    assert refused.returncode == 2
    assert "--dir" in refused.stderr
    assert (there(box) / "README.md").read_text() == "another project"
    assert [path.name for path in there(box).iterdir()] == ["README.md"]


@pytest.fixture
def full_box(box, sandbox):
    """A box with a home that has data, and a sync that writes to it."""
    assert_no_services(box.remote("setup", "--dir", FOLDER))
    put_key(box, sandbox)
    environment = {**clean_environment(), "FURNISYNC_HOME": str(there(box))}
    for job in ("images", "data"):
        subprocess.run(
            [sys.executable, "-m", "furnisync", job, "--fast"],
            env=environment, cwd=there(box), check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    running = subprocess.Popen(
        [sys.executable, "-m", "furnisync", "images", "--slow"],
        env=environment, cwd=there(box), stdout=subprocess.DEVNULL,
    )  # fmt: skip
    until(lambda: (there(box) / ".images.lock").read_text().strip() == str(running.pid))
    yield box
    running.terminate()
    assert running.wait(30) == 0


DAMAGING = """#!/bin/sh
case "$*" in *etsy_data.db*) printf x | dd of=etsy_data.db bs=1 seek=100 conv=notrunc ;; esac
exec {real} "$@"
"""


def count(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] in ("delete", "wal")
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


@pytest.mark.slow
def test_pull_brings_whole_copies_and_goes_on_after_a_break(full_box, tmp_path):
    box = full_box
    to = tmp_path / "pulled"
    arguments = ("pull", "--dir", FOLDER, "--to", str(to))
    broken, words = box.remote_broken("python", *arguments, word="remote.snapshot")
    assert (broken, REPEAT in words) == (2, True)
    box.repair()
    broken, words = box.remote_broken("rsync", *arguments)
    assert broken == 2
    assert "could not bring catalog.db" in words
    assert REPEAT in words
    (part,) = (to / ".furnisync-pulling").iterdir()
    assert 0 < part.stat().st_size <= PART_BYTES
    assert not (to / "catalog.db").exists()
    box.repair()

    pulled = box.remote(*arguments)
    assert pulled.returncode == 0, pulled.stderr
    names = {"catalog.db", "etsy_data.db", "image_metadata.json", "furniture_taxonomy_config.json"}
    assert {path.name for path in to.iterdir() if not path.name.startswith(".")} == names
    assert not (to / ".furnisync-pulling").exists()
    pulled_bytes = sum((to / name).stat().st_size for name in names)
    assert box.sent.stat().st_size < pulled_bytes - PART_BYTES / 2, "what had arrived was used"
    assert count(to / "catalog.db", "listings") == count(there(box) / "catalog.db", "listings") > 0
    assert count(to / "etsy_data.db", "shops") == count(there(box) / "etsy_data.db", "shops") > 0
    assert (to / "image_metadata.json").read_bytes().startswith(b"{")
    assert {oct((to / name).stat().st_mode & 0o777) for name in names} == {"0o600"}
    assert not (there(box) / ".furnisync-pull").exists()
    box.sent.unlink()
    again = box.remote(*arguments)
    assert again.returncode == 0, again.stderr
    assert box.sent.stat().st_size < pulled_bytes / 2, "only what has changed was sent"
    looked = subprocess.run(
        [sys.executable, "-m", "furnisync", "status"],
        env={**clean_environment(), "FURNISYNC_HOME": str(to)}, cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert looked.returncode == 0, looked.stderr
    assert "60 active" in looked.stdout


def test_pull_puts_a_new_file_only_when_it_is_right(full_box, tmp_path):
    box = full_box
    to = tmp_path / "pulled"
    arguments = ("pull", "--dir", FOLDER, "--to", str(to))
    assert box.remote(*arguments).returncode == 0
    before = (to / "catalog.db").read_bytes()
    (box.programs / "rsync").write_text(DAMAGING.format(real=shutil.which("rsync")))
    with closing(sqlite3.connect(there(box) / "etsy_data.db")) as changed:
        changed.execute("CREATE TABLE newer(aaaa TEXT) STRICT")
        changed.commit()
    (to / "etsy_data.db").unlink()
    refused = box.remote(*arguments)
    assert refused.returncode == 2
    assert "arrived changed" in refused.stderr
    assert not (to / "etsy_data.db").exists()
    assert (to / "catalog.db").read_bytes() == before, "files are replaced together"


def test_pull_of_nothing_says_what_to_do(box, sandbox):
    refused = box.remote("pull", "--dir", FOLDER)
    assert refused.returncode == 2
    assert "furnisync remote box setup" in refused.stderr
    assert_no_services(box.remote("setup", "--dir", FOLDER))
    refused = box.remote("pull", "--dir", FOLDER)
    assert refused.returncode == 2
    assert "run sync_images.py there first" in refused.stderr


def test_ssh_asks_nothing_and_its_troubles_come_with_a_remedy(box):
    (box.root / "authorized").write_text("")
    refused = box.remote("status")
    assert refused.returncode == 2
    assert "ssh-copy-id box" in refused.stderr
    (box.root / "known").write_text("")
    refused = box.remote("status")
    assert "connect once by hand with `ssh box`" in refused.stderr
    port = box.config.read_text()
    box.config.write_text(port.replace(" Port ", " Port 1\n #"))
    assert "Remote Login" in box.remote("status").stderr
    assert box.remote("status", host="no-such-host.invalid").returncode == 2


@pytest.mark.slow
def test_setup_with_the_real_make(tmp_path):
    """The environment from the package index, as on a new machine; then it runs there."""
    box = start_box(tmp_path)
    try:
        (box.programs / "make").unlink()
        ended = box.remote("setup", "--dir", "~/furnisync")
        if "Could not find a version" in ended.stderr or "No matching distribution" in ended.stderr:
            pytest.skip("no package index can be reached")
        assert_no_services(ended)
        python = box.user_home / "furnisync" / "venv" / "bin" / "python"
        ran = subprocess.run(
            [python, "-m", "furnisync", "version"], cwd=box.user_home / "furnisync",
            env={**clean_environment(), "HOME": os.environ.get("HOME", "/")},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        assert box.remote("update", "--dir", "~/furnisync").returncode == 0
    finally:
        box.close()
