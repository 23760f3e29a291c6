"""Purge takes everything of a listing, shop or buyer, or what is old, and none of it comes back."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest
from kept_world import BUYERS, DAY, NOW, SHOPS, KeptHome

from furnisync.catalog.listings import want_batch
from furnisync.catalog.schema import open_catalog
from furnisync.config import DataSettings
from furnisync.errors import AlreadyRunning
from furnisync.history.fields.pseudonyms import read_buyers
from furnisync.history.schema import open_history
from furnisync.lockfile import single_instance
from furnisync.ops.purge.purge import Purge, count_home, purge_home
from furnisync.ops.purge.retention import Retention
from furnisync.quota.clock_check import ClockCheck
from furnisync.sqlite.database import transaction
from furnisync.sqlite.writer import Writer


@pytest.fixture
def home(tmp_path):
    return KeptHome(tmp_path / "home").make()


def purge(home, by, value, *, dry_run=False):
    """Counts by kind; a real run is always counted before, and must do what was counted."""
    counted = count_home(home.files, home.clock, Purge(by, value))
    if not dry_run:
        assert purge_home(home.files, home.data, home.clock, Purge(by, value)) == counted
    return {(one.where, one.what): one.number for one in counted if one.number}


def listings_in(home):
    return {
        "listings": {row[0] for row in home.rows("SELECT listing_id FROM listings")},
        "images": {row[0] for row in home.rows("SELECT listing_id FROM images")},
        "files": {int(path.name.split("_")[0]) for path in home.images()},
        "metadata": {int(key) for key in home.metadata()},
        **{
            f"history {table}": {
                row[0] for row in home.rows(f"SELECT listing_id FROM {table}", history=True)
            }
            for table in ("listings", "listings_dynamic", "reviews")
        },
    }


@pytest.mark.parametrize(
    ("by", "value", "gone"), [("listing", 1001, {1001}), ("shop", 2, set(SHOPS[2]))]
)
def test_all_of_it_goes_and_stays_away(home, by, value, gone):
    rest = {one for ids in SHOPS.values() for one in ids} - gone
    counted = purge(home, by, value, dry_run=True)
    assert all(ids == rest | gone for ids in listings_in(home).values())
    done = purge(home, by, value)
    assert done == counted
    assert done["disk", "image files"] == 2 * len(gone)
    assert done["history", "reviews"] == len(gone)
    assert all(ids == rest for ids in listings_in(home).values())
    home.check_counters()
    # The next syncs are told all of it again.
    home.find_listings(NOW + DAY)
    home.append_history(NOW + DAY, SHOPS if by == "listing" else {1: SHOPS[1]})
    assert all(ids == rest for ids in listings_in(home).values())
    if by == "shop":
        assert home.rows("SELECT shop_id FROM shops") == [(1,)]
    assert home.rows("SELECT shop_id FROM sync_state", history=True) == (
        [(1,), (2,)] if by == "listing" else [(1,)]
    )
    home.check_counters()
    assert purge(home, by, value) == {}


def test_a_listing_whose_shop_is_told_later_does_not_come_back(home):
    purge(home, "shop", 2)
    with closing(open_catalog(home.files.catalog)) as catalog, transaction(catalog):
        want_batch(catalog, [2999], NOW)  # an ids file names it, its shop is not known yet
    home.find_listings(NOW + DAY, {2: (2999,)})
    assert home.rows("SELECT * FROM listings WHERE listing_id = 2999") == []
    assert home.rows("SELECT * FROM images WHERE listing_id = 2999") == []
    home.check_counters()


def test_nothing_is_left_in_the_files(home):
    needle = b"Table 1001"
    assert needle in home.files.history.read_bytes()
    purge(home, "listing", 1001)
    assert needle not in home.files.history.read_bytes()
    assert home.rows("SELECT 1 FROM sqlite_schema WHERE name = 'overwritten'", history=True) == []
    wal = home.files.history.with_name(home.files.history.name + "-wal")
    assert not wal.exists() or needle not in wal.read_bytes()


def test_what_was_staged_long_ago_is_overwritten_too(home):
    """The pages that deleted rows have left keep what stood there, until they are used again."""
    needle = b"Table 1001, as it was staged " * 1000
    with closing(open_history(home.files.history, home.selection())) as history:
        for _ in range(3):
            history.execute("INSERT INTO work_pages (sync_id, body) VALUES (1, ?)", (needle,))
        history.execute("DELETE FROM work_pages")
    assert needle[:500] in home.files.history.read_bytes()
    before = home.files.history.stat().st_size
    purge(home, "listing", 1001)
    assert needle[:20] not in home.files.history.read_bytes()
    assert home.files.history.stat().st_size <= before + 20 * 4096


@pytest.mark.parametrize("policy", ["keep", "hash", "drop"])
def test_a_buyer_goes_in_every_form(tmp_path, policy):
    home = KeptHome(tmp_path / "home", DataSettings(buyer_user_id=policy)).make()
    stored = {row[0] for row in home.rows("SELECT buyer_user_id FROM reviews", history=True)}
    raw = set(BUYERS.values())
    if policy == "keep":
        assert stored == raw
    elif policy == "drop":
        assert stored == {None}
    else:
        assert len(stored) == len(raw)
        assert all(2**62 <= one < 2**63 for one in stored)
        assert home.files.buyer_key.stat().st_mode & 0o777 == 0o600
    mine = sum(buyer == 501 for buyer in BUYERS.values())
    gone = purge(home, "buyer", 501)
    assert gone == ({} if policy == "drop" else {("history", "reviews"): mine})
    left = home.rows("SELECT count(*) FROM reviews", history=True)[0][0]
    home.append_history(NOW + DAY)  # each listing has a new review by the same buyer
    assert home.rows("SELECT count(*) FROM reviews", history=True) == [(left + 4 - mine,)]
    assert (501,) not in home.rows("SELECT id FROM purged", history=True)


def test_a_hash_is_the_same_for_all_runs_of_a_home_and_of_no_other(tmp_path):
    one = read_buyers(tmp_path / "key", "hash")
    assert read_buyers(tmp_path / "key", "hash").hashed(77) == one.hashed(77)
    assert one.hashed(one.hashed(77)) == one.hashed(77)
    assert read_buyers(tmp_path / "other", "hash").hashed(77) != one.hashed(77)
    assert one.apply({"buyer_user_id": "Jane Doe"}) == {"buyer_user_id": None}


def test_age_takes_what_was_written_long_ago_but_not_what_is_still_drawn_on(home):
    later = NOW + 100 * DAY
    home.append_history(later, {1: SHOPS[1]})  # static rows of shop 1 are not written again
    home.find_listings(later, {1: SHOPS[1]})
    home.clock.at = later + DAY
    counted = purge(home, "age", 50, dry_run=True)
    assert purge(home, "age", 50) == counted
    assert listings_in(home)["files"] == set(SHOPS[1])
    assert home.rows("SELECT shop_id FROM shops") == [(1,)]
    rows = home.rows(
        "SELECT listing_id, title, snapshot_timestamp FROM listings_latest", history=True
    )
    assert sorted(rows) == [(one, f"Table {one}", later) for one in SHOPS[1]]
    assert home.rows("SELECT min(snapshot_timestamp) FROM reviews", history=True) == [(later,)]
    home.find_listings(later + DAY)  # what is old is not banned: shop 2 comes back
    assert home.rows("SELECT count(*) FROM listings") == [(4,)]
    home.check_counters()


def test_refused_while_a_sync_runs_but_for_counting(home):
    with single_instance(home.files.lock("data"), "data sync"):
        assert purge(home, "shop", 1, dry_run=True)
        with pytest.raises(AlreadyRunning, match="data sync"):
            purge(home, "shop", 1)
    assert len(home.images()) == 8


def test_a_run_purges_by_itself_only_what_a_complete_pass_has_not_seen(home):
    later = NOW + 100 * DAY
    home.find_listings(later, {1: SHOPS[1]})
    home.append_history(later, {1: SHOPS[1]})
    home.change("UPDATE listings SET batch_due = NULL WHERE shop_id = 2")
    home.clock.at = later + DAY

    async def run(days, told=0.0):
        async def ping():
            return told

        clock = ClockCheck(home.clock, ping, lambda _: None, 1.0)
        keep = Retention(home.files, days)
        catalog = Writer(open_catalog(home.files.catalog), "catalog")
        history = Writer(open_history(home.files.history, home.selection()), "history")
        try:
            await keep.purge_catalog(catalog, clock)
            keep = Retention(home.files, days)
            await keep.purge_history(history, clock)
        finally:
            catalog.close()
            history.close()

    asyncio.run(run(0))
    assert home.rows("SELECT count(*) FROM listings") == [(4,)]
    asyncio.run(run(50))
    assert home.rows("SELECT count(*) FROM listings") == [(4,)]  # no pass was complete since
    assert home.rows("SELECT count(*) FROM reviews", history=True) == [(2,)]
    home.change("INSERT INTO passes VALUES (1, 'p', ?, ?, 1)", later - DAY, later)
    asyncio.run(run(50, told=None))
    assert home.rows("SELECT count(*) FROM listings") == [(4,)]  # nobody knows what time it is
    asyncio.run(run(50))
    assert {row[0] for row in home.rows("SELECT listing_id FROM listings")} == set(SHOPS[1])
    assert len(home.images()) == 4
    home.check_counters()
