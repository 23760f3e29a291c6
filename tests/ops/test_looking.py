"""Commands that only look: they leave no trace, and work where nothing can be written."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.read_only import need_read_only, read_only
from support.sync_world import Home, small_sandbox

LOOKING = [
    ("status",),
    ("coverage",),
    ("plan", "--dry-run"),
    ("verify",),
    ("doctor", "--json"),
    ("purge", "--dry-run", "--older-than", "1"),
]
FRAMES = """
import sys
from furnisync.analysis import asof
print(len(asof(sys.argv[1], "listings", 4e9)), len(asof(sys.argv[1], "shops", 4e9)))
"""
WRITER = """
import sys
from pathlib import Path
from furnisync.catalog.schema import add_event, open_catalog
from furnisync.sqlite.database import transaction
catalog = open_catalog(Path(sys.argv[1]))
print("ready", flush=True)
for at, line in enumerate(sys.stdin):
    if line == "checkpoint\\n":
        catalog.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    else:
        with transaction(catalog):
            add_event(catalog, 2_000_000_000 + at, "test", line.strip())
    print("done", flush=True)
catalog.close()
"""
READER = """
import sys
from contextlib import closing
from pathlib import Path
from furnisync.catalog.schema import read_catalog
with closing(read_catalog(Path(sys.argv[1]))) as catalog:
    print(catalog.execute("SELECT count(*) FROM listings").fetchone()[0], flush=True)
    sys.stdin.readline()
    print(catalog.execute("SELECT count(*) FROM events").fetchone()[0], flush=True)
"""


@pytest.fixture(scope="module")
def sandbox():
    with small_sandbox(shops=3, listings=20) as found:
        yield found


@pytest.fixture(scope="module")
def synced(tmp_path_factory, sandbox):
    """A home after both syncs, closed in good order."""
    home = Home(tmp_path_factory.mktemp("synced") / "home", sandbox)
    assert home.sync("--fast").status == 0
    assert home.run("data", "--fast").status == 0
    assert not list(home.path.glob("*-wal"))
    return home


@pytest.fixture
def home(tmp_path, synced, sandbox):
    shutil.copytree(synced.path, tmp_path / "home")
    copied = Home(tmp_path / "home", sandbox)
    shutil.copy2(synced.path / "furnisync.toml", copied.path)
    return copied


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file with size and time of change, every folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        told = path.stat()
        found[str(path)] = (told.st_size, told.st_mtime_ns) if path.is_file() else (0, 0)
    return found


class Child:
    """A process that does one thing for each line that it is told."""

    def __init__(self, home: Home, program: str, path: Path, *, locked: bool = False) -> None:
        command = [sys.executable, "-c", program, str(path)]
        self.process = subprocess.Popen(
            read_only(home.path, command) if locked else command,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=home.environment(),
        )  # fmt: skip
        self.first = self.process.stdout.readline().strip()

    def tell(self, words: str) -> str:
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self) -> tuple[int, str]:
        told = self.process.communicate(timeout=60)[1]
        return self.process.returncode, told


def look(home: Home, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command where the home cannot be written."""
    return subprocess.run(
        read_only(home.path, [sys.executable, *arguments]),
        capture_output=True, text=True, check=False, env=home.environment(), timeout=120,
    )  # fmt: skip


def events_seen(home: Home) -> set[str]:
    ended = look(home, "-m", "furnisync", "status", "--json")
    assert ended.returncode == 0, ended.stderr
    return {one["message"] for one in json.loads(ended.stdout)["events"] if one["kind"] == "test"}


# -- no trace ----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
def test_looking_at_a_home_changes_nothing(home, command):
    home.env = {"ETSY_API_KEY": "", "ETSY_SHARED_SECRET": ""}
    before = listing(home.path)
    ended = home.run(*command)
    assert ended.status in {0, 1}, ended.out
    assert listing(home.path) == before


def test_frames_leave_nothing_beside_the_history(home):
    before = listing(home.path)
    ended = home.start(str(home.path), command=("-c", FRAMES)).wait()
    assert (ended.status, ended.out) == (0, "20 3\n")
    assert listing(home.path) == before


def test_the_doctor_counts_its_call_but_makes_no_ledger_for_it(home, sandbox):
    before = listing(home.path)
    assert home.run("doctor").status == 0
    after = listing(home.path)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == {str(home.path / "quota.db")}
    (home.path / "quota.db").unlink()
    sandbox.reset_asked()
    before = listing(home.path)
    assert home.run("doctor").status == 0
    assert sandbox.asked()["calls"]["openapi-ping"]["200"] == 1
    assert listing(home.path) == before


@pytest.mark.parametrize("there", [True, False], ids=["an empty folder", "no folder"])
@pytest.mark.parametrize(
    "command",
    [*LOOKING, ("notices", "check"), ("notices", "test"), ("backup",), ("service", "status")],
    ids=" ".join,
)
def test_looking_where_no_home_is_makes_none(tmp_path, command, there):
    home = Home(tmp_path / "made", None)
    nowhere = tmp_path / "nowhere"
    if there:
        nowhere.mkdir()
    home.env = {"FURNISYNC_HOME": str(nowhere)}
    ended = home.run(*command)
    if command[0] == "doctor":
        checks = {one["name"]: one for one in json.loads(ended.out.splitlines()[-1])}
        assert checks["home"]["verdict"] == ("warn" if there else "fail")
    elif command != ("service", "status"):
        assert ended.status == 2, ended.out
        assert ended.out.count("\n") == 1
        assert "holds no data of furnisync" in ended.out if there else "not there" in ended.out
    assert nowhere.exists() == there
    assert not there or list(nowhere.iterdir()) == []


def test_what_a_killed_sync_left_stays_for_the_next_one(home):
    writer = Child(home, WRITER, home.path / "catalog.db")
    writer.tell("in the log")
    writer.kill()
    log = home.path / "catalog.db-wal"
    before = log.read_bytes()
    assert before
    ended = home.run("status", "--json")
    assert "in the log" in {one["message"] for one in json.loads(ended.out)["events"]}
    assert home.run("verify").status == 0
    assert log.read_bytes() == before


# -- a read-only file system -------------------------------------------------------------------


@pytest.fixture
def locked(home):
    need_read_only(home.path)
    return home


def check_all(home: Home) -> None:
    before = listing(home.path)
    for command in LOOKING:
        ended = look(home, "-m", "furnisync", *command)
        # The doctor says that no sync can run; the others have nothing to complain of.
        assert ended.returncode == (command[0] == "doctor"), (command, ended.stdout, ended.stderr)
        assert ended.stdout
        if command[0] == "doctor":
            checks = json.loads(ended.stdout.splitlines()[-1])
            failed = {one["name"] for one in checks if one["verdict"] == "fail"}
            assert failed == {"home"}
    ended = look(home, "-c", FRAMES, str(home.path))
    assert (ended.stdout, ended.stderr) == ("20 3\n", "")
    assert listing(home.path) == before


def test_all_that_looks_works_on_a_read_only_home(locked):
    check_all(locked)


def test_and_after_a_sync_was_killed(locked):
    for name in ("catalog.db", "etsy_data.db"):
        writer = Child(locked, "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]);"
                       " c.execute('CREATE TABLE killed (a)'); c.commit(); print(1, flush=True);"
                       " sys.stdin.read()", locked.path / name)  # fmt: skip
        writer.kill()
        assert (locked.path / f"{name}-wal").stat().st_size
    check_all(locked)


def test_the_newest_commits_are_seen_or_it_is_said_that_they_cannot(locked):
    writer = Child(locked, WRITER, locked.path / "catalog.db")
    writer.tell("before the kill")
    writer.kill()
    assert events_seen(locked) == {"before the kill"}
    (locked.path / "catalog.db-shm").unlink()  # as in a copy of the home
    ended = look(locked, "-m", "furnisync", "status")
    assert ended.returncode == 2
    assert "catalog.db-wal holds the newest changes" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert ended.stdout == ""


def test_a_writer_on_the_other_side_is_followed(locked):
    writer = Child(locked, WRITER, locked.path / "catalog.db")
    writer.tell("one")
    assert events_seen(locked) == {"one"}
    writer.tell("checkpoint")
    writer.tell("two")
    assert events_seen(locked) == {"one", "two"}
    assert writer.end()[0] == 0
    assert not (locked.path / "catalog.db-wal").exists()
    assert events_seen(locked) == {"one", "two"}


def test_what_changes_under_a_reader_is_no_data(locked):
    reader = Child(locked, READER, locked.path / "catalog.db", locked=True)
    assert reader.first == "20"
    writer = Child(locked, WRITER, locked.path / "catalog.db")
    writer.tell("changed meanwhile")
    writer.tell("checkpoint")
    reader.tell("go on")
    status, told = reader.end()
    assert status == 1
    assert "was changed while it was read on a read-only file system" in told
    assert writer.end()[0] == 0


def test_a_writer_that_only_begins_does_not_disturb_a_reader(locked):
    reader = Child(locked, READER, locked.path / "catalog.db", locked=True)
    writer = Child(locked, WRITER, locked.path / "catalog.db")
    writer.tell("in the log only")
    assert reader.tell("go on") == "0"
    assert reader.end() == (0, "")
    assert writer.end()[0] == 0


def test_what_must_write_says_so_in_one_sentence(locked, tmp_path):
    commands = (
        ("images", "--fast"), ("data", "--fast"), ("plan",), ("backup",),
        ("backup", str(tmp_path / "b")), ("notices", "check"), ("verify", "--repair"),
        ("purge", "--older-than", "1", "--yes"),
    )  # fmt: skip
    for command in commands:
        ended = look(locked, "-m", "furnisync", *command)
        assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), (command, ended.stderr)
        assert "Read-only file system" in ended.stderr
