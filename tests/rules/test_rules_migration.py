"""Databases of older versions: copied whole before they are migrated, or left as they were."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing

import pytest

from furnisync.catalog import schema as catalog
from furnisync.errors import DatabaseFull, DatabaseOutdated, DatabaseUnusable
from furnisync.history import schema as history
from furnisync.history.fields.selection import Selection
from furnisync.quota import store
from furnisync.sqlite.database import open_database, open_reader

MARK = 0x46535454
FIRST = "CREATE TABLE rows (number INTEGER PRIMARY KEY, text TEXT) STRICT;"
SECOND = "ALTER TABLE rows ADD COLUMN more TEXT;"
BROKEN = "UPDATE rows SET more = 'changed'; SELECT nothing;"


def make_old(path, rows=3):
    with closing(open_database(path, MARK, [FIRST])) as connection:
        connection.executemany(
            "INSERT INTO rows VALUES (?, ?)", [(n, "x" * 500) for n in range(rows)]
        )


def rows_of(path, sql="SELECT number, text FROM rows"):
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return connection.execute(sql).fetchall()


def version_of(path):
    return rows_of(path, "PRAGMA user_version")[0][0]


def backups(path):
    return sorted(one.name for one in path.parent.glob("*backup*"))


def test_an_old_database_is_copied_whole_before_it_is_migrated(tmp_path, caplog):
    caplog.set_level("INFO")
    path = tmp_path / "ours.db"
    # The last rows lie in the log only, as after a kill: another connection stays open.
    with closing(open_database(path, MARK, [FIRST])) as other:
        other.execute("INSERT INTO rows VALUES (1, 'in the log')")
        open_database(path, MARK, [FIRST, SECOND]).close()
    backup = tmp_path / "ours.db.v1-backup"
    assert backups(path) == [backup.name]
    assert (version_of(path), version_of(backup)) == (2, 1)
    assert rows_of(backup) == [(1, "in the log")]
    assert backup.stat().st_mode & 0o777 == 0o600
    assert str(backup) in caplog.text
    # Moved over the database it is what the older program had.
    backup.replace(path)
    open_database(path, MARK, [FIRST]).close()


def test_a_new_database_and_one_of_the_newest_version_are_not_copied(tmp_path):
    path = tmp_path / "ours.db"
    for _ in range(2):
        open_database(path, MARK, [FIRST, SECOND]).close()
    assert backups(path) == []


def test_a_migration_that_fails_leaves_all_as_it_was(tmp_path):
    path = tmp_path / "ours.db"
    make_old(path)
    before = rows_of(path)
    with pytest.raises(DatabaseUnusable):
        open_database(path, MARK, [FIRST, SECOND, BROKEN])
    assert (version_of(path), rows_of(path), backups(path)) == (1, before, [])


def test_no_room_for_the_copy_is_one_sentence_and_nothing_is_migrated(tmp_path, monkeypatch):
    path = tmp_path / "ours.db"
    make_old(path)
    full = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(DatabaseFull, match=r"is copied before it is renewed.*free some") as told:
        open_database(path, MARK, [FIRST, SECOND])
    assert "\n" not in str(told.value)
    assert (version_of(path), backups(path)) == (1, [])


@pytest.mark.processes
def test_a_disk_that_takes_no_copy_leaves_the_old_version(tmp_path):
    """Another process, whose files may not grow any more, as on a disk with a quota."""
    path = tmp_path / "ours.db"
    make_old(path, 2000)
    program = f"""
        import pathlib, resource, sys
        from furnisync.sqlite.database import open_database
        from furnisync.errors import DatabaseFull
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        try:
            open_database(pathlib.Path(sys.argv[1]), {MARK}, [{FIRST!r}, {SECOND!r}])
        except DatabaseFull as error:
            sys.exit(7)
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(program), path], check=False)
    assert ended.returncode == 7
    assert (version_of(path), len(rows_of(path)), backups(path)) == (1, 2000, [])


def test_a_backup_that_is_there_is_never_overwritten(tmp_path):
    path = tmp_path / "ours.db"
    make_old(path)
    (tmp_path / "ours.db.v1-backup").write_text("somebody's")
    open_database(path, MARK, [FIRST, SECOND]).close()
    assert (tmp_path / "ours.db.v1-backup").read_text() == "somebody's"
    assert version_of(tmp_path / "ours.db.v1-backup-2") == 1


def test_copies_of_still_older_versions_go_once_the_migration_is_done(tmp_path):
    path = tmp_path / "ours.db"
    make_old(path)
    open_database(path, MARK, [FIRST, SECOND]).close()
    foreign = tmp_path / "ours.db.v0-backup"
    foreign.write_text("somebody's")
    open_database(path, MARK, [FIRST, SECOND, "CREATE TABLE third (a INTEGER) STRICT;"]).close()
    assert backups(path) == [foreign.name, "ours.db.v2-backup"]


@pytest.mark.processes
@pytest.mark.parametrize("instant", ["while it copies", "after the copy", "while it migrates"])
def test_a_kill_at_any_instant_leaves_a_database_of_one_version(tmp_path, instant):
    path = tmp_path / "ours.db"
    make_old(path, 2000)
    program = f"""
        import os, pathlib, signal, sys
        from furnisync import durable
        from furnisync.sqlite import migration_backup
        from furnisync.sqlite.database import open_database
        die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        instant = sys.argv[2]
        if instant == "while it copies":
            durable.give_name = die
        def migrate(connection):
            if instant == "after the copy":
                die()
            connection.execute("UPDATE rows SET text = 'changed'")
            die()
        open_database(pathlib.Path(sys.argv[1]), {MARK}, [{FIRST!r}, migrate])
    """
    program = textwrap.dedent(program)
    ended = subprocess.run([sys.executable, "-c", program, path, instant], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert (version_of(path), len(rows_of(path))) == (1, 2000)
    open_database(path, MARK, [FIRST, SECOND]).close()
    assert version_of(path) == 2
    assert backups(path) == ["ours.db.v1-backup"], "the copy of the killed run serves, no second"
    assert len(rows_of(tmp_path / "ours.db.v1-backup")) == 2000
    assert not list(tmp_path.glob(".*"))


def test_writes_of_another_process_wait_until_the_migration_is_done(tmp_path):
    path = tmp_path / "ours.db"
    make_old(path)
    seen = []

    def migrate(connection):
        with closing(sqlite3.connect(path, timeout=0)) as other:
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("INSERT INTO rows VALUES (99, 'late')")
            seen.append(other.execute("SELECT count(*) FROM rows").fetchone()[0])

    open_database(path, MARK, [FIRST, migrate]).close()
    assert seen == [3]
    assert rows_of(path) == rows_of(tmp_path / "ours.db.v1-backup")


# -- our databases -----------------------------------------------------------------------------


def open_quota(path):
    return store.open_ledger(path)


def open_history(path):
    return history.open_history(path, Selection.of())


OURS = {
    "catalog.db": (catalog, catalog.open_catalog),
    "etsy_data.db": (history, open_history),
    "quota.db": (store, open_quota),
}


@pytest.mark.parametrize("name", OURS)
def test_an_older_program_refuses_a_newer_file(tmp_path, name):
    module, opens = OURS[name]
    path = tmp_path / name
    newer = [*module.MIGRATIONS, "CREATE TABLE of_tomorrow (a INTEGER) STRICT;"]
    open_database(path, module.APPLICATION_ID, newer).close()
    before = path.read_bytes()
    with pytest.raises(DatabaseUnusable, match="update furnisync"):
        opens(path)
    with pytest.raises(DatabaseUnusable, match="update furnisync"):
        open_reader(path, module.APPLICATION_ID, len(module.MIGRATIONS))
    assert path.read_bytes() == before


def test_no_reader_of_ours_reads_a_newer_file(tmp_path):
    for module, reads in (
        (catalog, catalog.read_catalog),
        (history, history.open_history_reader),
    ):
        path = tmp_path / f"{module.APPLICATION_ID}.db"
        newer = [*module.MIGRATIONS, "CREATE TABLE of_tomorrow (a INTEGER) STRICT;"]
        open_database(path, module.APPLICATION_ID, newer).close()
        with pytest.raises(DatabaseUnusable, match="update furnisync"):
            reads(path)


@pytest.mark.parametrize("name", ["catalog.db", "etsy_data.db"])
def test_every_older_version_of_ours_is_migrated_after_a_copy(tmp_path, name):
    module, opens = OURS[name]
    for version in range(1, len(module.MIGRATIONS)):
        folder = tmp_path / str(version)
        folder.mkdir()
        path = folder / name
        open_database(path, module.APPLICATION_ID, module.MIGRATIONS[:version]).close()
        if module is catalog:
            with pytest.raises(DatabaseOutdated, match="furnisync service restart"):
                catalog.read_catalog(path)
        opens(path).close()
        assert version_of(path) == len(module.MIGRATIONS)
        assert version_of(folder / f"{name}.v{version}-backup") == version
