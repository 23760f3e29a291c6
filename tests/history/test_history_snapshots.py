import pytest
from history_world import DAY, T0, listing, rows, shop, sync

from furnisync.history.snapshots import (
    SyncIncomplete,
    append_shop_sync,
    mark_shop_gone,
    mark_sync_failed,
)
from furnisync.history.staging import begin_shop_sync, open_syncs, stage_list_page

COUNTS = """SELECT (SELECT count(*) FROM shops), (SELECT count(*) FROM shops_dynamic),
    (SELECT count(*) FROM listings), (SELECT count(*) FROM listings_dynamic)"""


def counts(history):
    return rows(history, COUNTS)[0]


def states(history, listing_id):
    return [
        row[0]
        for row in rows(
            history,
            "SELECT state FROM listings_dynamic WHERE listing_id = ? ORDER BY snapshot_timestamp",
            listing_id,
        )
    ]


def test_new_shop_gets_static_and_dynamic_rows_of_one_snapshot(history, selection):
    sync(history, selection, 1, [listing(10, 1), listing(11, 1)], T0)
    assert counts(history) == (1, 1, 2, 2)
    for table in ("shops", "shops_dynamic", "listings", "listings_dynamic"):
        assert rows(history, f"SELECT DISTINCT snapshot_timestamp FROM {table}") == [(T0,)]
    row = history.execute("SELECT * FROM listings_latest WHERE listing_id = 10").fetchone()
    assert row["price_amount"] == 12500
    assert row["tags"] == '["oak","table"]'
    assert row["is_customizable"] == 1
    assert row["is_personalizable"] == 0
    assert row["processing_max"] is None


def test_known_shop_gets_dynamic_rows_and_static_ones_after_half_a_year(history, selection):
    items = [listing(10, 1), listing(11, 1)]
    sync(history, selection, 1, items, T0)
    sync(history, selection, 1, items, T0 + 15 * DAY)
    assert counts(history) == (1, 2, 2, 4)
    sync(history, selection, 1, [*items, listing(12, 1)], T0 + 182 * DAY)
    assert counts(history) == (1, 3, 3, 7)  # exactly 182 days are not over 182 days
    sync(history, selection, 1, [*items, listing(12, 1)], T0 + 210 * DAY)
    assert counts(history) == (2, 4, 5, 10)
    state = history.execute("SELECT * FROM sync_state").fetchone()
    assert state["first_sync"] == T0
    assert state["last_sync"] == T0 + 210 * DAY == state["last_static"]
    assert state["status"] == "ok"
    assert (state["listings_told"], state["listings_found"], state["listings_active"]) == (3, 3, 3)


def test_listing_that_ended_is_looked_up_once_and_taken_up_when_it_returns(history, selection):
    one, two = listing(10, 1), listing(11, 1)
    ended = {**two, "state": "sold_out"}
    sync(history, selection, 1, [one, two], T0)
    _, asked = sync(history, selection, 1, [one], T0 + 15 * DAY, known=[one, ended])
    assert asked == [10, 11]
    assert states(history, 11) == ["active", "sold_out"]
    _, asked = sync(history, selection, 1, [one], T0 + 30 * DAY, known=[one, ended])
    assert asked == [10]
    assert states(history, 11) == ["active", "sold_out"]
    sync(history, selection, 1, [one, two], T0 + 45 * DAY)
    assert states(history, 11) == ["active", "sold_out", "active"]


def test_listing_unknown_to_batch_is_gone_with_nothing_else(history, selection):
    one, two = listing(10, 1), listing(11, 1)
    sync(history, selection, 1, [one, two], T0)
    appended, _ = sync(history, selection, 1, [one], T0 + 15 * DAY)
    assert (appended.gone, appended.listing_dynamic) == (1, 2)
    row = history.execute("SELECT * FROM listings_latest WHERE listing_id = 11").fetchone()
    assert row["state"] == "gone"
    assert row["views"] is None
    assert row["price_amount"] is None
    assert row["title"] == two["title"]
    _, asked = sync(history, selection, 1, [one], T0 + 30 * DAY)
    assert asked == [10]
    assert states(history, 11) == ["active", "gone"]
    sync(history, selection, 1, [one, two], T0 + 45 * DAY)
    assert states(history, 11) == ["active", "gone", "active"]


def test_never_recorded_listing_that_batch_does_not_know_leaves_no_row(history, selection):
    appended, _ = sync(history, selection, 1, [listing(10, 1), listing(11, 1)], T0, known=[])
    assert appended.vanished == 2
    assert counts(history) == (1, 1, 0, 0)


def test_empty_list_is_no_proof_that_all_ended(history, selection):
    items = [listing(i, 1) for i in range(10, 13)]
    sync(history, selection, 1, items, T0)
    _, asked = sync(history, selection, 1, [], T0 + 15 * DAY, known=items)
    assert asked == [10, 11, 12]
    assert states(history, 10) == ["active", "active"]


def test_null_zero_and_false_come_back_as_what_they_were(history, selection):
    sync(history, selection, 1, [listing(10, 1, views=0, quantity=None)], T0, review_count=None)
    sync(history, selection, 1, [listing(10, 1, views=None, quantity=0)], T0 + 15 * DAY)
    assert rows(
        history, "SELECT views, quantity FROM listings_dynamic ORDER BY snapshot_timestamp"
    ) == [(0, None), (None, 0)]
    assert rows(history, "SELECT views FROM listings_latest") == [(None,)]


def test_incomplete_sync_is_never_appended(history, selection):
    begin_shop_sync(history, 1, T0)
    with pytest.raises(SyncIncomplete):
        append_shop_sync(history, 1)
    stage_list_page(history, 1, [10], counted=1, next_offset=None)
    with pytest.raises(SyncIncomplete):
        append_shop_sync(history, 1)
    assert counts(history) == (0, 0, 0, 0)
    assert rows(history, "SELECT status, last_sync FROM sync_state") == [("new", None)]
    with pytest.raises(LookupError):
        append_shop_sync(history, 2)


def test_shop_without_listings(history, selection):
    appended, asked = sync(history, selection, 1, [], T0, listing_active_count=0)
    assert asked == []
    assert appended.shop_static == 1
    assert counts(history) == (1, 1, 0, 0)


def test_gone_shop_ends_its_listings_and_waits_longer_each_time(history, selection):
    sync(history, selection, 1, [listing(10, 1), listing(11, 1)], T0)
    begin_shop_sync(history, 1, T0 + 15 * DAY)
    assert mark_shop_gone(history, 1, T0 + 15 * DAY) == 2
    assert open_syncs(history) == []
    assert states(history, 10) == ["active", "gone"]
    waits = [90, 180, 360, 720, 720]
    for number, days in enumerate(waits):
        row = history.execute("SELECT * FROM sync_state").fetchone()
        assert row["status"] == "gone"
        asked_at = T0 + 15 * DAY + number
        assert row["not_before"] == asked_at + days * DAY
        assert mark_shop_gone(history, 1, asked_at + 1) == 0
    sync(history, selection, 1, [listing(10, 1)], T0 + 4000 * DAY)
    row = history.execute("SELECT * FROM sync_state").fetchone()
    assert (row["status"], row["gone_answers"], row["not_before"]) == ("ok", 0, None)
    assert states(history, 10) == ["active", "gone", "active"]


def test_failure_leaves_the_staging_and_the_reason(history, selection):
    begin_shop_sync(history, 1, T0)
    stage_list_page(history, 1, [10], counted=1, next_offset=100)
    mark_sync_failed(history, 1, "503 from Etsy", T0)
    row = history.execute("SELECT * FROM sync_state").fetchone()
    assert (row["failures"], row["reason"], row["not_before"]) == (1, "503 from Etsy", T0 + 3600)
    assert [state.list_offset for state in open_syncs(history)] == [100]
    assert shop(1)["shop_id"] == 1


def test_values_that_do_not_fit_are_kept_as_oddities(history, selection):
    odd = listing(10, 1, quantity=1.5, views="12", title="a\x00b", price=12.5)
    sync(history, selection, 1, [odd], T0)
    row = history.execute("SELECT * FROM listings_latest").fetchone()
    assert (row["quantity"], row["views"], row["title"]) == (None, 12, "a\x00b")
    assert (row["price_amount"], row["price_divisor"]) == (125, 10)
    assert rows(history, "SELECT * FROM oddities ORDER BY field") == [
        ("listings", 10, T0, "price", "12.5"),
        ("listings", 10, T0, "quantity", "1.5"),
    ]
