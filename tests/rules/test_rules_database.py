"""Databases: foreign files stay as they are, the writer keeps its order and waits for room."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import closing

import pytest

from furnisync.errors import AlreadyRunning, DatabaseUnusable, NotHere
from furnisync.lockfile import holder, single_instance
from furnisync.sqlite import database
from furnisync.sqlite.database import open_database, open_reader, transaction
from furnisync.sqlite.writer import Writer

OURS = 0x46535454
FIRST = "CREATE TABLE rows (number INTEGER PRIMARY KEY, text TEXT) STRICT;"


def opened(path):
    return open_database(path, OURS, [FIRST])


@pytest.fixture
def writer(tmp_path):
    one = Writer(opened(tmp_path / "ours.db"), "catalog", no_room_retry_s=0.05)
    yield one
    one.close()


def numbers(path):
    with closing(open_reader(path, OURS, 1)) as reader:
        return [row[0] for row in reader.execute("SELECT number FROM rows ORDER BY rowid")]


def insert(connection, number, text="x"):
    connection.execute("INSERT INTO rows VALUES (?, ?)", (number, text))
    return number


# -- whose file is it? -------------------------------------------------------------------------


def newer(path):
    open_database(path, OURS, [FIRST, "CREATE TABLE more (a INTEGER) STRICT;"]).close()


def someone_elses(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (a)")
        connection.execute("INSERT INTO theirs VALUES (1)")
        connection.commit()


def someone_elses_wal(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE theirs (a)")
        connection.commit()


def text_file(path):
    path.write_bytes(b"dear diary, " * 500)


def broken_off(path):
    newer(path)
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize("make", [newer, someone_elses, someone_elses_wal, text_file, broken_off])
def test_a_file_that_is_not_ours_to_open_stays_as_it_is(tmp_path, make):
    path = tmp_path / "some.db"
    make(path)
    before = path.read_bytes()
    with pytest.raises(DatabaseUnusable) as told:
        opened(path)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)
    assert path.read_bytes() == before


def test_a_reader_names_what_it_cannot_read(tmp_path):
    with pytest.raises(DatabaseUnusable, match="does not exist yet: run a sync"):
        open_reader(tmp_path / "none.db", OURS, 1)
    opened(tmp_path / "ours.db").close()
    with pytest.raises(DatabaseUnusable, match="older version"):
        open_reader(tmp_path / "ours.db", OURS, 2, oldest=2)
    someone_elses(tmp_path / "theirs.db")
    with pytest.raises(DatabaseUnusable, match="not made by furnisync"):
        open_reader(tmp_path / "theirs.db", OURS, 1)
    ours = closing(open_reader(tmp_path / "ours.db", OURS, 1))
    with ours as reader, pytest.raises(sqlite3.OperationalError):
        insert(reader, 1)


def test_a_folder_in_the_way_is_told(tmp_path):
    (tmp_path / "ours.db").mkdir()
    with pytest.raises(DatabaseUnusable):
        opened(tmp_path / "ours.db")


def test_a_migration_that_fails_leaves_the_version_before(tmp_path):
    path = tmp_path / "ours.db"
    opened(path).close()
    with pytest.raises(DatabaseUnusable):
        open_database(path, OURS, [FIRST, "CREATE TABLE more (a) STRICT; SELECT nothing;"])
    opened(path).close()  # still of version 1, or it would be too new
    assert numbers(path) == []


# -- the writer --------------------------------------------------------------------------------


def test_work_is_committed_in_its_order(writer, tmp_path):
    futures = [writer.submit(insert, number) for number in range(200)]
    assert [future.result() for future in futures] == list(range(200))
    assert numbers(tmp_path / "ours.db") == list(range(200))


def test_work_that_fails_leaves_nothing_and_stops_nothing(writer, tmp_path):
    def fails(connection):
        insert(connection, 1)
        raise ValueError("no")

    first, second = writer.submit(fails), writer.submit(insert, 2)
    with pytest.raises(ValueError, match="no"):
        first.result()
    second.result()
    assert numbers(tmp_path / "ours.db") == [2]


def test_work_that_waits_is_committed_together(writer, tmp_path):
    commits = []
    writer._connection.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else 0)
    go_on = threading.Event()
    first = writer.submit(lambda connection: (go_on.wait(10), insert(connection, 0)))
    futures = [writer.submit(insert, number) for number in range(1, 21)]
    faulty = writer.submit(broken)
    go_on.set()
    with pytest.raises(RuntimeError, match="not this one"):
        faulty.result(10)
    first.result(10)
    assert [future.result(10) for future in futures] == list(range(1, 21))
    assert len(commits) < len(futures) / 2
    assert numbers(tmp_path / "ours.db") == list(range(21))


def broken(connection):
    insert(connection, 99)
    raise RuntimeError("not this one")


def test_an_error_that_ends_the_transaction_meets_only_its_cause(writer, tmp_path):
    """SQLite may undo a whole transaction at an error, as on a failing disk."""
    go_on = threading.Event()

    def undoes(connection):
        insert(connection, 98)
        connection.execute("ROLLBACK")
        raise sqlite3.DatabaseError("disk I/O error")

    writer.submit(lambda _: go_on.wait(10))
    before, cause, after = writer.submit(insert, 1), writer.submit(undoes), writer.submit(insert, 2)
    go_on.set()
    with pytest.raises(sqlite3.DatabaseError, match="I/O"):
        cause.result(10)
    assert [before.result(10), after.result(10)] == [1, 2]
    assert numbers(tmp_path / "ours.db") == [1, 2]


def test_a_cancelled_caller_leaves_its_transaction_whole(writer, tmp_path):
    began, go_on = threading.Event(), threading.Event()

    def slow(connection):
        insert(connection, 1)
        began.set()
        go_on.wait(10)
        insert(connection, 2)

    async def cancelled_half_way():
        task = asyncio.create_task(writer.run(slow))
        await asyncio.to_thread(began.wait)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        go_on.set()
        await writer.run(insert, 3)

    asyncio.run(cancelled_half_way())
    assert numbers(tmp_path / "ours.db") == [1, 2, 3]


def test_a_commit_that_fails_leaves_no_open_transaction(tmp_path):
    with closing(opened(tmp_path / "ours.db")) as connection:
        connection.execute(
            "CREATE TABLE child (number INTEGER REFERENCES rows DEFERRABLE INITIALLY DEFERRED)"
        )
        with pytest.raises(sqlite3.IntegrityError), transaction(connection):
            connection.execute("INSERT INTO child VALUES (7)")
        with transaction(connection):
            insert(connection, 1)


def limit_pages(writer, more):
    """Let the database grow by so many pages and no more, as on a full disk."""
    connection = writer._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + more}")


def test_a_full_disk_is_waited_out_and_nothing_is_lost(writer, tmp_path, caplog):
    limit_pages(writer, 2)
    futures = [writer.submit(insert, number, "x" * 4000) for number in range(8)]
    time.sleep(0.4)
    assert not futures[-1].done()
    limit_pages(writer, 1000)
    assert [future.result(10) for future in futures] == list(range(8))
    assert numbers(tmp_path / "ours.db") == list(range(8))
    said = [(record.levelno, record.message) for record in caplog.records]
    assert [level for level, _ in said] == [logging.ERROR, logging.WARNING]
    assert "no room" in said[0][1]
    assert "continues" in said[1][1]


def test_a_run_that_ends_does_not_wait_for_room(tmp_path):
    writer = Writer(opened(tmp_path / "ours.db"), "catalog")
    limit_pages(writer, 1)
    futures = [writer.submit(insert, number, "x" * 4000) for number in range(8)]
    began = time.monotonic()
    writer.close()
    assert time.monotonic() - began < 2
    with pytest.raises(DatabaseUnusable, match="free some disk"):
        futures[-1].result()
    kept = [number for number, future in enumerate(futures) if future.exception() is None]
    assert numbers(tmp_path / "ours.db") == kept


def test_a_disk_that_was_pulled_out_is_no_full_one(writer, tmp_path):
    """What is written to it fails as on a full disk, and would be waited for in vain."""
    limit_pages(writer, 0)
    for path in tmp_path.glob("*.db*"):
        path.rename(f"{path}.unplugged")
    with pytest.raises(NotHere, match="mount its disk"):
        writer.submit(insert, 1, "x" * 100_000).result(30)


def test_other_trouble_is_not_waited_out(writer):
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        writer.submit(lambda connection: connection.execute("SELECT 1 FROM missing")).result(5)


@pytest.mark.processes
def test_a_file_system_that_takes_no_more_is_waited_out(tmp_path):
    """A child whose files may not grow (the same error as a quota of the file system)."""
    program = """
        import pathlib, resource, sys, time
        from furnisync.sqlite.database import open_database
        from furnisync.sqlite.writer import Writer
        path = pathlib.Path(sys.argv[1])
        first = "CREATE TABLE rows (number INTEGER PRIMARY KEY, text TEXT) STRICT;"
        database = open_database(path, 0x46535454, [first])
        writer = Writer(database, "catalog", no_room_retry_s=0.05)
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        def insert(connection, number):
            connection.execute("INSERT INTO rows VALUES (?, ?)", (number, "x" * 20_000))
        futures = [writer.submit(insert, number) for number in range(20)]
        time.sleep(0.5)
        assert not futures[-1].done()
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        for future in futures:
            future.result(10)
        writer.close()
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), tmp_path / "ours.db"],
        check=True,
        timeout=30,
    )
    assert numbers(tmp_path / "ours.db") == list(range(20))


# -- one instance ------------------------------------------------------------------------------


@pytest.mark.processes
def test_a_second_process_is_refused_with_the_pid_of_the_first(tmp_path):
    program = """
        import pathlib, sys
        from furnisync.lockfile import single_instance
        with single_instance(pathlib.Path(sys.argv[1]), "image sync"):
            print("in", flush=True)
            sys.stdin.read()
    """
    lock = tmp_path / ".images.lock"
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), lock],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        child.stdout.readline()
        assert holder(lock) == child.pid
        with pytest.raises(AlreadyRunning, match=rf"pid {child.pid}\)"):
            single_instance(lock, "image sync").__enter__()
        child.kill()
        child.wait()
    assert holder(lock) is None
    with single_instance(lock, "image sync"):
        assert holder(lock) is not None
    assert holder(lock) is None


def test_whoever_asks_for_the_holder_does_not_hinder_a_start(tmp_path):
    lock = tmp_path / ".images.lock"
    ended = threading.Event()

    def ask():
        while not ended.is_set():
            holder(lock)

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for one in askers:
        one.start()
    try:
        for _ in range(100):
            with single_instance(lock, "image sync"):
                pass
    finally:
        ended.set()
        for one in askers:
            one.join()


# -- reading -----------------------------------------------------------------------------------


def beside(path):
    return {one.name: one.stat().st_size for one in path.parent.iterdir()}


def left_open(path):
    """The database as `kill -9` leaves it: with a row that only the log has."""
    with closing(opened(path.with_name("before.db"))) as writer:
        insert(writer, 1)
        for ending in ("", "-wal", "-shm"):
            shutil.copy(f"{writer_path(writer)}{ending}", f"{path}{ending}")
    path.with_name("before.db").unlink()


def writer_path(connection):
    return connection.execute("PRAGMA database_list").fetchone()["file"]


def test_a_reader_leaves_a_closed_database_as_it_was(tmp_path):
    opened(tmp_path / "ours.db").close()
    before = beside(tmp_path / "ours.db")
    assert list(before) == ["ours.db"]
    assert numbers(tmp_path / "ours.db") == []
    assert beside(tmp_path / "ours.db") == before


def test_a_reader_leaves_a_log_for_the_next_writer(tmp_path):
    path = tmp_path / "ours.db"
    left_open(path)
    before = beside(path)
    assert before["ours.db-wal"] > 0
    assert numbers(path) == [1]
    assert beside(path) == before
    path.with_name("ours.db-shm").unlink()  # as in a copy
    assert numbers(path) == [1]
    assert beside(path) == before
    with closing(opened(path)):
        assert numbers(path) == [1]
    assert list(beside(path)) == ["ours.db"]


def test_a_reader_that_outlives_the_writer_takes_nothing_away(tmp_path):
    path = tmp_path / "ours.db"
    writer = opened(path)
    with closing(open_reader(path, OURS, 1)) as reader:
        insert(writer, 1)
        writer.close()
        assert reader.execute("SELECT count(*) FROM rows").fetchone()[0] == 1
    assert numbers(path) == [1]


def test_an_odd_path_is_no_address(tmp_path):
    path = tmp_path / "100% ?mode=memory#ü.db"
    with closing(opened(path)) as writer:
        insert(writer, 1)
        assert numbers(path) == [1]
    assert numbers(path) == [1]
    assert list(beside(path)) == [path.name]


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_SHMMAP, sqlite3.SQLITE_PROTOCOL])
def test_a_file_system_that_cannot_share_is_told(tmp_path, monkeypatch, code):
    def refused(path):
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = code
        raise error

    monkeypatch.setattr(database, "connect_to_write", refused)
    with pytest.raises(
        DatabaseUnusable, match=r"network shares.*local disk and set FURNISYNC_HOME"
    ):
        opened(tmp_path / "ours.db")
