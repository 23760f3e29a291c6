"""What lies under our names and is not ours: plan, settings, backups, units, reports, pulls."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import threading
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from backup_world import BackupHome

from furnisync import owned
from furnisync.config import HomeFiles, read_settings
from furnisync.crawl.plan_file import load_plan, save_cuts
from furnisync.errors import ConfigError, UserError
from furnisync.history.fields.pseudonyms import read_buyers
from furnisync.importer.report import Reason, Report
from furnisync.lockfile import single_instance
from furnisync.ops.notify.notifier import remembering
from furnisync.ops.remote import pull as remote_pull
from furnisync.ops.remote.host import RemoteHost
from furnisync.ops.remote.snapshot import take_snapshots
from furnisync.ops.service.service import write_unit

DAY = 86_400


@pytest.fixture
def home(tmp_path):
    found = BackupHome(tmp_path / "home")
    found.fill(1, 20)
    return found


def kept_of(path):
    return [one.read_bytes() for one in sorted(path.parent.glob(f"{path.name}.kept-*"))]


# -- the crawl plan and the settings -----------------------------------------------------------


def test_edits_between_our_read_and_our_write_of_the_plan_are_not_lost(tmp_path, monkeypatch):
    """An editor saves at the worst instant: our new file is whole, and not renamed yet."""
    path = tmp_path / "plan.json"
    load_plan(path, None)
    replacing, edits = owned.durable.replacing, iter([[0, 7, 1_000_000], [0, 9, 1_000_000]])

    def replacing_while_somebody_edits(path, *args, **options):
        breaks = next(edits, None)
        if breaks is not None:
            entry = {"id": 967, "name": "Edited", "price_breaks": breaks}
            path.write_text(json.dumps({"taxonomies": [entry], "note": "mine"}))
        return replacing(path, *args, **options)

    monkeypatch.setattr(owned.durable, "replacing", replacing_while_somebody_edits)
    save_cuts(path, 967, [50.0])
    saved = json.loads(path.read_bytes())
    assert saved["note"] == "mine"
    assert saved["taxonomies"][0] == {
        "id": 967, "name": "Edited", "price_breaks": [0, 9, 50, 1_000_000],
    }  # fmt: skip
    assert [one.name for one in tmp_path.iterdir()] == ["plan.json"]


def test_a_plan_that_is_a_link_stays_one(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    real, path = tmp_path / "elsewhere" / "plan.json", tmp_path / "plan.json"
    load_plan(real, None)
    path.symlink_to(real)
    save_cuts(path, 967, [50.0])
    assert path.is_symlink()
    assert b"50" in real.read_bytes()


@pytest.mark.parametrize("make", [read_settings, lambda path: load_plan(path, None)])
def test_files_of_the_first_start_are_never_seen_in_part(tmp_path, make):
    """Many processes at once: each finds the whole file, of which the first one stays."""
    broken = []

    def start(path):
        try:
            make(path)
        except ConfigError as error:
            broken.append(error)

    for number in range(20):
        path = tmp_path / f"{number}"
        threads = [threading.Thread(target=start, args=(path,)) for _ in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert broken == []
    assert not list(tmp_path.glob(".*"))


def test_a_buyers_key_that_another_process_made_stays(tmp_path):
    path = tmp_path / ".buyer_key"
    keys = []
    threads = [
        threading.Thread(target=lambda: keys.append(read_buyers(path, "hash").key))
        for _ in range(8)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert set(keys) == {path.read_bytes()}
    assert path.stat().st_mode & 0o777 == 0o600


# -- backups and restored files ----------------------------------------------------------------


def test_a_backup_of_a_newer_program_is_not_cleared_away(home):
    home.backup(offset_s=-10 * DAY)
    (old,) = home.backups()
    manifest = json.loads((old / "backup.json").read_bytes())
    (old / "backup.json").write_text(json.dumps({**manifest, "form": 99}))
    before = {one.name: one.read_bytes() for one in old.iterdir()}
    home.backup("--keep-days", 1, "--keep-weeks", 1)
    assert {one.name: one.read_bytes() for one in old.iterdir()} == before


def test_a_backup_that_was_broken_off_goes(home):
    home.backup(offset_s=-10 * DAY)
    (old,) = home.backups()
    (old / "backup.json").unlink()
    home.backup()
    assert not old.exists()


def test_a_folder_of_that_name_that_is_not_ours_stops_a_restore(home):
    home.backup()
    (home.path / ".restore").mkdir()
    (home.path / ".restore" / "thesis.txt").write_text("two years")
    status, out = home.run("restore", home.path / "backups")
    assert status == 2, out
    assert "move it away" in " ".join(out.split())
    assert (home.path / ".restore" / "thesis.txt").read_text() == "two years"


def test_a_log_without_its_database_is_kept_by_a_restore(home):
    home.backup()
    for path in home.path.glob("catalog.db*"):
        path.unlink()
    (home.path / "catalog.db-wal").write_bytes(b"what a database was left without")
    status, out = home.run("restore", home.path / "backups")
    assert status == 0, out
    (kept,) = home.path.glob("catalog.before-restore-*")
    assert kept.read_bytes() == b"what a database was left without"
    assert home.dump()


# -- services ----------------------------------------------------------------------------------


def test_a_unit_that_somebody_wrote_or_changed_is_kept_and_not_started(tmp_path, caplog):
    path = tmp_path / "user" / "furnisync-images.service"
    assert write_unit(path, b"[Unit]\n")
    assert not write_unit(path, b"[Unit]\n")
    assert write_unit(path, b"[Unit]\nDescription=newer\n")
    assert kept_of(path) == []
    path.write_bytes(b"[Service]\nNice=19\n")
    assert write_unit(path, b"[Unit]\n")
    assert path.read_bytes() == b"[Unit]\n"
    assert kept_of(path) == [b"[Service]\nNice=19\n"]
    assert "kept as" in caplog.text
    started = [one.name for one in path.parent.iterdir() if one.suffix in (".service", ".plist")]
    assert started == [path.name]


# -- an import's report ------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["my notes\n", '{"a": 1}\n', "[1]\n", '"text"\n'])
def test_a_report_takes_no_other_files_place(tmp_path, content):
    path = tmp_path / "notes.txt"
    path.write_text(content)
    with pytest.raises(ConfigError, match="--report"), Report(path):
        pass
    assert path.read_text() == content


def test_a_report_takes_an_earlier_ones_place(tmp_path):
    path = tmp_path / "report.jsonl"
    for entry in ("1", "2"):
        with Report(path) as report:
            report.leave_out("broken rows", ("some.db", entry), Reason.NO_ID)
    assert [json.loads(line)["entry"] for line in path.read_text().splitlines()] == ["2"]
    with Report(path):
        pass
    assert not path.exists()


# -- the memory of notices ---------------------------------------------------------------------


def test_a_memory_of_notices_that_is_not_ours_is_kept(tmp_path):
    files = HomeFiles(tmp_path)
    files.notices.write_text("dear diary")
    with remembering(files) as memory:
        memory.sent["a"] = 1.0
    assert kept_of(files.notices) == [b"dear diary"]
    with remembering(files) as memory:
        assert memory.sent == {"a": 1.0}


# -- pulled files ------------------------------------------------------------------------------


class NearHost(RemoteHost, frozen=True):
    """Another computer that is this one: its scripts run here, without ssh and its environment."""

    def run(self, step, script):
        if "remote.snapshot" in script:
            return msgspec.json.encode(take_snapshots(HomeFiles(Path(self.folder))))
        return subprocess.run(
            ["sh", "-c", script], check=True, capture_output=True, text=True
        ).stdout

    def fetch(self, step, path, to, *, progress):
        shutil.copyfile(path, to)


def pull(home, to):
    return remote_pull.pull(NearHost("near", str(home)), to, progress=False)


def listings(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT count(*) FROM listings").fetchone()[0]


def test_a_pull_replaces_what_it_brought_and_keeps_anything_else(home, tmp_path):
    to = tmp_path / "pulled"
    to.mkdir()
    (to / "catalog.db").write_bytes(b"another home's")
    pull(home.path, to)
    assert kept_of(to / "catalog.db") == [b"another home's"]
    first = listings(to / "catalog.db")
    home.fill(1000, 30)
    pull(home.path, to)
    assert listings(to / "catalog.db") == first + 30
    assert kept_of(to / "catalog.db") == [b"another home's"]
    with closing(sqlite3.connect(to / "catalog.db")) as changed:
        changed.execute("CREATE TABLE my_notes (text TEXT)")
        changed.commit()
    home.fill(2000, 1)
    pull(home.path, to)
    assert len(kept_of(to / "catalog.db")) == 2
    assert listings(to / "catalog.db") == first + 31


@pytest.mark.parametrize("job", ["images", "data"])
def test_no_pull_into_a_home_whose_sync_runs(home, tmp_path, job):
    other = BackupHome(tmp_path / "other")
    other.fill(1, 5)
    before = (other.path / "catalog.db").read_bytes()
    files = HomeFiles(other.path)
    with single_instance(files.lock(job), job), pytest.raises(UserError, match="--to"):
        pull(home.path, other.path)
    assert (other.path / "catalog.db").read_bytes() == before
