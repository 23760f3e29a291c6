"""Unit files by version of systemd, the rotating log, and nohup as ever."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from service_world import ODD, clean_environment, make_home, present_sandbox, until

from furnisync.ops.service.service import Service, last_line
from furnisync.ops.service.systemd import quote, render_unit
from furnisync.sandbox.process import SandboxProcess

ROOT = Path(__file__).resolve().parents[2]


def service_at(home: Path) -> Service:
    return Service("images", home, home, Path(sys.executable))


def test_pauses_grow_where_systemd_can():
    old, new = (render_unit(service_at(Path("/home/me")), version) for version in (252, 254))
    assert "RestartSteps" not in old
    assert "RestartSec=60" in old
    assert "RestartSteps=6" in new
    assert "RestartMaxDelaySec=900" in new
    for unit in (old, new):
        assert "RestartPreventExitStatus=2" in unit
        assert "StartLimitIntervalSec=0" in unit
        assert "TimeoutStopSec=30" in unit
        assert "WantedBy=default.target" in unit


def test_words_are_quoted_as_systemd_reads_them():
    assert quote('a "b" 100% \\n') == '"a \\"b\\" 100%% \\\\n"'


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_accepts_the_unit(tmp_path):
    home = tmp_path / ODD
    home.mkdir()
    unit = tmp_path / "furnisync-images.service"
    unit.write_text(render_unit(service_at(home), 252))
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    checked = subprocess.run(
        ["systemd-analyze", "--user", "verify", unit],
        env={**clean_environment(), "XDG_RUNTIME_DIR": str(runtime)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr
    assert "furnisync-images" not in checked.stderr


def test_everything_that_a_process_says_is_rotated(tmp_path):
    log = tmp_path / "logs" / "images.log"
    code = f"""
import logging, os, sys
from pathlib import Path
from furnisync.ops.service.service_log import log_to
log_to(Path({str(log)!r}), logging.Formatter("%(message)s"), max_bytes=2000, keep=3)
logging.getLogger("furnisync").setLevel(logging.INFO)
for number in range(400):
    print("printed", number)
    logging.getLogger("furnisync").info("logged %d", number)
os.write(2, b"raw words\\n")
raise RuntimeError("the end")
"""
    ended = subprocess.run(
        [sys.executable, "-u", "-c", code], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", "")
    files = sorted(log.parent.iterdir())
    assert [file.name for file in files] == ["images.log", *(f"images.log.{n}" for n in (1, 2, 3))]
    assert all(file.stat().st_size < 4000 for file in files)
    newest = log.read_text()
    assert "raw words" in newest
    assert "RuntimeError: the end" in newest
    assert last_line(log) == "RuntimeError: the end"
    told = "".join(file.read_text() for file in reversed(files))
    for kind in ("printed", "logged"):
        numbers = [int(number) for number in re.findall(rf"{kind} (\d+)", told)]
        assert numbers == list(range(numbers[0], 400)), "no line is lost between two files"


def nohup(home: Path, sandbox: SandboxProcess) -> tuple[subprocess.Popen[bytes], Path]:
    """The user's own line, but for caffeinate where there is none."""
    output = home / "sync_output.log"
    caffeinate = "caffeinate -i " if shutil.which("caffeinate") else ""
    line = f'exec nohup {caffeinate}"$0" -u sync_images.py --slow > "$1" 2>&1'
    shell = subprocess.Popen(
        ["sh", "-c", line, sys.executable, str(output)],
        cwd=ROOT,
        env={**clean_environment(), **sandbox.env, "FURNISYNC_HOME": str(home)},
    )
    return shell, output


def check_plain(words: str) -> None:
    assert "\x1b" not in words, "no colours and no bars in a file"
    assert "\r" not in words
    assert "━" not in words


def test_nohup_as_ever_and_a_hangup_does_not_end_it(tmp_path):
    with present_sandbox() as sandbox:
        home = make_home(tmp_path / "home", sandbox)
        process, output = nohup(home, sandbox)
        until(lambda: output.exists() and "images: " in output.read_text("utf-8", "replace"))
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        words = output.read_text()
        check_plain(words)
        assert "Stopped. The same command continues from here." in words


def test_a_catalog_in_the_making_is_waited_for(tmp_path):
    """Both services start together: an exit status of 2 would end the data service for good."""
    home = make_home(tmp_path / "home", None)
    with closing(sqlite3.connect(home / "catalog.db")) as begun:
        begun.execute("PRAGMA journal_mode = WAL")  # a header is there, and no table yet
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "furnisync", "service", "run", "data"],
        cwd=home,
        env={**clean_environment(), "FURNISYNC_HOME": str(home)},
    )
    log = home / "logs" / "data.log"
    try:
        until(lambda: process.poll() is not None or (log.exists() and "waiting" in log.read_text()))
        assert process.poll() is None, log.read_text()
        assert "waiting for the first shops" in log.read_text()
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_one_useful_line_a_minute(tmp_path):
    with present_sandbox() as sandbox:
        home = make_home(tmp_path / "home", sandbox)
        process, output = nohup(home, sandbox)
        time.sleep(135)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        words = output.read_text()
    check_plain(words)
    lines = [line for line in words.splitlines() if " listings; images: " in line]
    assert len(lines) == 3  # after 5, 65 and 125 seconds
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO ", line) for line in lines)
    assert "calls: " in lines[0]


def test_a_wrong_word_says_what_is_right():
    ended = subprocess.run(
        [sys.executable, "-m", "furnisync", "service", "install", "pictures"],
        capture_output=True, text=True, check=False, env=dict(os.environ),
    )  # fmt: skip
    assert ended.returncode == 2
    assert "images" in ended.stderr


def test_logs_are_shown_where_no_supervisor_runs(tmp_path):
    """As in a copy of a home, or on a system with neither launchd nor systemd."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "images.log").write_text("the images service starts\n")
    ended = subprocess.run(
        [sys.executable, "-m", "furnisync", "service", "logs", "images"],
        env={**clean_environment(), "FURNISYNC_HOME": str(tmp_path), "XDG_RUNTIME_DIR": "/none"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (0, "the images service starts\n"), ended.stderr
