"""Times ahead of now in the history: found, marked, left out, and their shops due again."""

from history_world import DAY, T0, listing, sync

from furnisync.config import DataSettings
from furnisync.history.clock_repair import repair_shop, repair_shops, shops_ahead
from furnisync.history.reviews import mark_reviews_failed, next_review_ask, postpone_reviews
from furnisync.history.schedule import due_reviews, due_shops, measure_lag
from furnisync.history.snapshots import mark_shop_gone, mark_sync_failed
from furnisync.history.staging import begin_shop_sync, open_syncs

SETTINGS = DataSettings()
AHEAD = T0 + 3650 * DAY
WAIT_S = 14 * DAY


def found(history, now=T0, **more):
    return shops_ahead(history, now, wait_s=WAIT_S, **more)


def due(history):
    return {one.shop_id for one in due_shops(history, T0, SETTINGS)}


def column(history, sql):
    return [row[0] for row in history.execute(sql)]


def test_nothing_is_found_in_a_right_history(history, selection):
    sync(history, selection, 1, [listing(11, 1)], T0)
    begin_shop_sync(history, 2, T0 + 1800)
    mark_shop_gone(history, 3, T0)
    mark_sync_failed(history, 1, "500", T0)
    postpone_reviews(history, 1, T0 + WAIT_S)
    assert found(history, rows=True) == []


def test_rows_from_before_stay_and_become_the_latest_again(history, selection):
    sync(history, selection, 1, [listing(11, 1)], T0 - 20 * DAY)
    sync(history, selection, 1, [listing(11, 1), listing(12, 1)], AHEAD)
    assert due(history) == set()
    lag = measure_lag(history, T0, SETTINGS)
    assert (lag.due, lag.ahead) == (1, 1)
    assert found(history) == [1]
    assert repair_shops(history, [1], T0) == 6, "both rows of a shop and of two listings"
    assert found(history, rows=True) == []
    assert column(history, "SELECT snapshot_timestamp FROM shops_latest") == [T0 - 20 * DAY]
    assert column(history, "SELECT listing_id FROM listings_latest") == [11]
    state = history.execute("SELECT status, first_sync, last_sync, last_static FROM sync_state")
    assert tuple(state.fetchone()) == ("ok", *[T0 - 20 * DAY] * 3)
    assert due(history) == {1}
    assert repair_shop(history, 1, T0) == 0, "again it does nothing"


def test_a_shop_that_has_no_other_rows_is_as_if_never_synced(history, selection):
    sync(history, selection, 1, [listing(11, 1)], AHEAD)
    repair_shop(history, 1, T0)
    assert column(history, "SELECT status FROM sync_state") == ["new"]
    sync(history, selection, 1, [listing(11, 1)], T0)
    assert column(history, "SELECT snapshot_timestamp FROM listings_latest") == [T0]
    assert column(history, "SELECT title IS NOT NULL FROM listings_latest") == [1]
    assert column(history, "SELECT last_sync FROM sync_state") == [T0]


def test_what_is_under_way_waits_or_is_gone_is_due_again(history, selection):
    begin_shop_sync(history, 1, AHEAD)
    mark_shop_gone(history, 2, AHEAD)
    mark_sync_failed(history, 3, "500", AHEAD)
    for shop_id in (3, 4, 5):
        sync(history, selection, shop_id, [], T0)
    next_review_ask(history, 4, AHEAD)
    mark_reviews_failed(history, 5, "500", AHEAD)
    assert found(history) == [1, 2, 4, 5]
    repair_shops(history, found(history), T0)
    assert found(history, rows=True) == []
    assert open_syncs(history) == []
    assert due(history) == {1, 2}
    walks = {one.shop_id for one in due_reviews(history, T0, SETTINGS)}
    assert walks == {3, 4, 5}
    assert column(history, "SELECT max(walk_started) FROM sync_state") == [T0]


def test_a_gone_listing_ends_once_though_its_last_row_is_marked(history, selection):
    sync(history, selection, 1, [listing(11, 1)], T0 - DAY)
    mark_shop_gone(history, 1, AHEAD)
    repair_shop(history, 1, T0)
    assert column(history, "SELECT state FROM listings_latest") == ["active"]
    mark_shop_gone(history, 1, T0)
    assert column(history, "SELECT state FROM listings_latest") == ["gone"]
