"""No answer is asked for twice: each program uses the other's batch answers."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest
from support.collect_world import BATCH_CALL, SHOP_CALL, Home, calls_of, content, small_sandbox
from support.sync_world import findable

from furnisync.catalog.schema import open_catalog
from furnisync.outbox import (
    PRUNE_EVERY,
    Cursor,
    Outbox,
    empty_outbox,
    load_cursor,
    read_answers,
    save_cursor,
)

FURNITURE = ("--fast", "--furniture-only")
NEWEST = "SELECT listing_id, max(snapshot_timestamp) FROM listings_dynamic GROUP BY listing_id"


@pytest.fixture
def bent():
    with small_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def home(tmp_path, bent):
    """A home after a first image sync."""
    home = Home(tmp_path / "home", bent)
    ended = home.images("--fast").wait()
    assert ended.status == 0, ended.out
    return home


def without_outbox(home, folder):
    other = home.copy(folder)
    (other.path / "images_outbox.db").unlink()
    return other


def test_what_image_sync_has_read_costs_data_sync_no_batch_call(home, bent, tmp_path):
    other = without_outbox(home, tmp_path / "other")
    read_at = home.now()
    bent.reset_asked()
    home.sync(*FURNITURE)
    calls = calls_of(bent)
    assert BATCH_CALL not in calls
    assert SHOP_CALL not in calls
    times = dict(home.rows(NEWEST))
    assert times.keys() >= findable(bent)
    assert max(times.values()) <= read_at, "rows bear the time of the answer"
    other.sync(*FURNITURE)
    assert content(home) == content(other)


def test_of_whole_shops_only_the_rest_is_asked_for(home, bent, tmp_path):
    other = without_outbox(home, tmp_path / "other")
    bent.reset_asked()
    home.sync()
    used = calls_of(bent)
    bent.reset_asked()
    other.sync()
    assert used.get(BATCH_CALL, 0) < calls_of(bent)[BATCH_CALL]
    assert content(home) == content(other)


def test_a_shop_is_due_again_by_its_oldest_row(home):
    home.later(2)
    home.sync(*FURNITURE)
    oldest = home.number("SELECT min(snapshot_timestamp) FROM listings_dynamic")
    assert home.number("SELECT min(last_sync) FROM sync_state") == oldest
    home.later(12.1)
    home.sync(*FURNITURE)
    newest = home.number(
        "SELECT min(newest) FROM (SELECT max(snapshot_timestamp) AS newest"
        " FROM listings_dynamic GROUP BY listing_id HAVING state = 'active')"
    )
    assert newest > home.now() - 14 * 86_400


def test_rows_that_are_too_old_are_not_reused(home, bent):
    home.later(5)
    bent.reset_asked()
    home.sync(*FURNITURE)
    assert calls_of(bent)[BATCH_CALL] > 0
    assert home.number("SELECT min(n) FROM (SELECT count(*) AS n FROM listings_dynamic GROUP BY"
                       " listing_id)") >= 1  # fmt: skip


def test_what_data_sync_has_read_costs_image_sync_no_batch_call(home, bent):
    home.later(15)
    home.sync(*FURNITURE)
    home.later(16)
    bent.reset_asked()
    ended = home.images("--fast").wait()
    assert ended.status == 0, ended.out
    with closing(sqlite3.connect(home.path / "catalog.db")) as catalog:
        read = catalog.execute("SELECT min(batched_at) FROM listings WHERE state = 'active'")
        assert read.fetchone()[0] > home.now() - 17 * 86_400
    assert BATCH_CALL not in calls_of(bent), "all were due for a refresh after 30 days"


def test_an_image_that_data_sync_saw_is_fetched_without_a_batch_call(home, bent):
    listing_id = min(findable(bent))
    bent.churn({"op": "images", "listing_ids": [listing_id], "add": 2})
    shown = sum(row["listing_id"] == listing_id for row in bent.truth_images())
    home.later(15)
    home.sync(*FURNITURE)
    bent.reset_asked()
    ended = home.images("--fast").wait()
    assert ended.status == 0, ended.out
    assert BATCH_CALL not in calls_of(bent)
    with closing(sqlite3.connect(home.path / "catalog.db")) as catalog:
        held = catalog.execute(
            "SELECT count(*), sum(status = 'done') FROM images WHERE listing_id = ?", (listing_id,)
        ).fetchone()
    assert held == (shown, shown)


@pytest.mark.parametrize("killed", range(4))
def test_killed_while_answers_are_taken_nothing_is_lost_or_doubled(home, tmp_path, killed):
    other = home.copy(tmp_path / "other")
    for number in range(3):
        run = home.start(*FURNITURE)
        run.until((home.path / "etsy_data.db").exists)
        least = 5 * number + 7 * killed
        run.until(lambda: taken(home) >= least)  # noqa: B023 -- called at once
        run.kill()
    home.sync(*FURNITURE)
    other.sync(*FURNITURE)
    assert content(home) == content(other)


def taken(home):
    try:
        return home.number("SELECT count(*) FROM listings_dynamic")
    except sqlite3.Error:
        return 0


def test_a_damaged_outbox_only_costs_calls(home, bent):
    (home.path / "images_outbox.db").write_bytes(b"no database" * 1000)
    ended = home.sync(*FURNITURE)
    assert "images_outbox.db cannot be read" in ended.out
    assert dict(home.rows(NEWEST)).keys() >= findable(bent)


def test_an_outbox_that_cannot_be_used_is_moved_aside(home):
    (home.path / "data_outbox.db").write_bytes(b"no database" * 1000)
    home.later(5)
    ended = home.sync(*FURNITURE)
    assert "it was moved to data_outbox.db.unusable-" in ended.out
    (aside,) = home.path.glob("data_outbox.db.unusable-*")
    assert aside.read_bytes() == b"no database" * 1000
    assert read_answers(home.path / "data_outbox.db", None, 10)


def test_purged_listings_leave_the_outboxes(home):
    listing_id = min(dict(catalog_rows(home)))
    purged = home.start(
        "purge", "--listing", str(listing_id), "--yes", command=("-m", "furnisync")
    ).wait()
    assert purged.status == 0, purged.out
    home.sync(*FURNITURE)
    assert listing_id not in dict(home.rows(NEWEST))
    for path in home.path.glob("*_outbox.db"):
        assert read_answers(path, None, 10**6) == [] or path.name.startswith("data")


def catalog_rows(home):
    with closing(sqlite3.connect(home.path / "catalog.db")) as catalog:
        return catalog.execute("SELECT listing_id, shop_id FROM listings").fetchall()


# -- the file ----------------------------------------------------------------------------------


def put_all(path, reader, answers):
    async def main():
        outbox = Outbox(path, reader)
        for at, listings in answers:
            await outbox.put(at, listings)
        outbox.close()

    asyncio.run(main())


def test_answers_come_back_in_order_from_a_cursor_on(tmp_path):
    path = tmp_path / "outbox.db"
    assert read_answers(path, None, 10) == []
    put_all(path, tmp_path / "none.db", [(5, b'[{"listing_id": 1}]'), (6, b"[]"), (7, b"[2]")])
    first, second, third = read_answers(path, None, 10)
    assert (first.at, first.objects()) == (5, [{"listing_id": 1}])
    assert third.objects() == []
    assert read_answers(path, first.cursor, 1) == [second]
    assert read_answers(path, Cursor("of another outbox", 2), 10) == [first, second, third]
    empty_outbox(path)
    assert read_answers(path, None, 10) == []


def test_what_was_taken_and_what_is_old_is_deleted(tmp_path):
    path, reader = tmp_path / "outbox.db", tmp_path / "catalog.db"
    day = 86_400
    put_all(path, reader, [(day, b"[1]"), (14 * day, b"[2]"), (14 * day, b"[3]")])
    answers = read_answers(path, None, 10)
    with closing(open_catalog(reader)) as catalog:
        save_cursor(catalog, answers[1].cursor)
        assert load_cursor(catalog) == answers[1].cursor
    put_all(path, reader, [(16 * day, b"[4]")])
    assert [one.listings for one in read_answers(path, None, 10)] == [b"[3]", b"[4]"]
    put_all(path, tmp_path / "none.db", [(40 * day, b"[5]")] * (PRUNE_EVERY + 1))
    assert {one.listings for one in read_answers(path, None, 1000)} == {b"[5]"}
