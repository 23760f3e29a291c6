"""What a damaged, foreign, newer or locked file gets."""

import asyncio
import logging
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from quota_world import FakeClock, FakeEtsy, call, call_many, open_ledger, run

from furnisync.errors import DatabaseUnusable


def damaged_files(folder: Path) -> list[Path]:
    return [
        path
        for path in folder.glob("quota.db.damaged-*")
        if not path.name.endswith(("-wal", "-shm"))
    ]


@pytest.mark.parametrize(
    "content", [b"not a database, surely" * 500, b"SQLite format 3\0" + b"x" * 9000]
)
def test_a_damaged_file_is_moved_aside(tmp_path: Path, clock, caplog, content) -> None:
    (tmp_path / "quota.db").write_bytes(content)
    ledger = open_ledger(tmp_path, clock)
    run(clock, call(ledger, FakeEtsy(clock)))
    assert damaged_files(tmp_path)[0].read_bytes() == content
    assert "was damaged" in caplog.text
    assert ledger.state().used_last_day == 1


def test_damage_inside_the_file_is_found(tmp_path: Path, clock) -> None:
    path = tmp_path / "quota.db"
    ledger = open_ledger(tmp_path, clock)
    run(clock, call_many(ledger, FakeEtsy(clock), 20))
    ledger.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xaa" * (len(content) - 4096)
    path.write_bytes(content)
    ledger = open_ledger(tmp_path, clock)
    run(clock, call(ledger, FakeEtsy(clock)))
    assert len(damaged_files(tmp_path)) == 1


def delete_ledger(folder: Path) -> None:
    for path in folder.glob("quota.db*"):
        path.unlink()


@pytest.mark.parametrize(
    "harm",
    ["UPDATE ledger SET state = '{\"grants\": \"many\"}'", "UPDATE ledger SET state = '{'",
     "DROP TABLE usage"],
)  # fmt: skip
def test_damage_while_running_is_mended_and_the_others_follow(tmp_path, clock, harm) -> None:
    one, two = open_ledger(tmp_path, clock), open_ledger(tmp_path, clock, "data")
    etsy = FakeEtsy(clock)

    async def main() -> None:
        await asyncio.gather(call(one, etsy), call(two, etsy))
        stranger = sqlite3.connect(tmp_path / "quota.db")
        stranger.execute(harm)
        stranger.commit()
        stranger.close()
        clock.advance(1.5)
        await asyncio.gather(call_many(one, etsy, 20), call_many(two, etsy, 20))

    run(clock, main())
    assert len(damaged_files(tmp_path)) == 1
    assert etsy.refused == 0
    assert one.state().used_last_day == two.state().used_last_day >= 40


def test_a_file_deleted_while_running_is_made_anew(tmp_path: Path, clock) -> None:
    ledger, etsy = open_ledger(tmp_path, clock), FakeEtsy(clock)

    async def main() -> None:
        await call(ledger, etsy)
        delete_ledger(tmp_path)
        clock.advance(1.5)
        await call(ledger, etsy)

    run(clock, main())
    assert ledger.state().used_last_day == 1
    assert (tmp_path / "quota.db").exists()


def test_a_newer_version_and_a_foreign_file_are_refused_and_untouched(
    tmp_path: Path, clock
) -> None:
    open_ledger(tmp_path, clock).close()
    path = tmp_path / "quota.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(DatabaseUnusable, match="version 99"):
        open_ledger(tmp_path, clock)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 1")
    connection.execute("PRAGMA application_id = 7")
    connection.close()
    with pytest.raises(DatabaseUnusable, match="not made by furnisync"):
        open_ledger(tmp_path, clock)
    assert not damaged_files(tmp_path)


def test_a_lock_held_by_another_never_stops_the_loop(tmp_path: Path, clock) -> None:
    ledger, etsy = open_ledger(tmp_path, clock), FakeEtsy(clock)
    other = sqlite3.connect(tmp_path / "quota.db", isolation_level=None)

    async def main() -> None:
        await call(ledger, etsy)
        await ledger.acquire("batch")
        other.execute("BEGIN IMMEDIATE")
        ledger.settle("batch", etsy.call())  # returns; written down once the lock is free
        waiting = asyncio.create_task(ledger.acquire("batch"))
        await asyncio.sleep(5.0)  # the loop runs
        assert not waiting.done()
        assert ledger.state().in_flight == 1
        other.execute("ROLLBACK")
        await waiting
        assert ledger.state().in_flight == 1

    run(clock, main())
    assert clock.mono - 5000 < 5.3
    assert ledger.state().remaining_today == 100_000 - 3


def test_a_file_that_cannot_be_written_pauses_and_says_so(tmp_path, clock, caplog) -> None:
    caplog.set_level(logging.WARNING)
    ledger, etsy = open_ledger(tmp_path, clock), FakeEtsy(clock)

    async def main() -> None:
        await call(ledger, etsy)
        ledger._file.connection.execute("PRAGMA query_only = ON")  # as a full disk: writing fails
        waiting = asyncio.create_task(call(ledger, etsy))
        await asyncio.sleep(30)
        assert not waiting.done()
        ledger._file.connection.execute("PRAGMA query_only = OFF")
        await waiting

    run(clock, main())
    assert caplog.text.count("cannot be written") == 1


def test_many_open_at_once(tmp_path: Path) -> None:
    for n in range(5):
        folder = tmp_path / str(n)
        folder.mkdir()
        (folder / "quota.db").write_bytes(b"junk" * 3000)
        with ThreadPoolExecutor(8) as pool:
            opened = list(pool.map(open_ledger, [folder] * 8, [FakeClock()] * 8))
        assert len(damaged_files(folder)) == 1
        assert len({ledger._file._inode for ledger in opened}) == 1
        for ledger in opened:
            ledger.close()
