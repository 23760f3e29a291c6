import time

from history_world import DAY, T0, listing, new_history, sync
from hypothesis import given, settings
from hypothesis import strategies as st

from furnisync.history.reviews import ReviewPage, append_review_page, next_review_ask
from furnisync.history.schedule import Cadence, due_reviews, due_shops, measure_lag, register_shops
from furnisync.history.schema import open_history
from furnisync.history.selection import Selection
from furnisync.history.snapshots import mark_shop_gone, mark_sync_failed
from furnisync.history.staging import begin_shop_sync

CADENCE = Cadence()


def ids(found):
    return [shop.shop_id for shop in found]


def test_never_synced_come_first_by_size_then_the_most_overdue(history, selection):
    register_shops(history, [(1, 5), (2, 50), (3, 5), (4, 9)])
    assert ids(due_shops(history, T0, CADENCE)) == [2, 4, 1, 3]
    assert ids(due_shops(history, T0, CADENCE, top=2)) == [2, 4]
    assert ids(due_shops(history, T0, CADENCE, limit=1)) == [2]
    sync(history, selection, 2, [], T0)
    sync(history, selection, 1, [], T0 - DAY)
    assert ids(due_shops(history, T0 + 14 * DAY, CADENCE)) == [4, 3, 1]
    assert ids(due_shops(history, T0 + 14 * DAY + 1, CADENCE)) == [4, 3, 1, 2]
    begin_shop_sync(history, 4, T0)
    assert ids(due_shops(history, T0 + 14 * DAY, CADENCE)) == [3, 1]
    register_shops(history, [(3, 77)])
    assert due_shops(history, T0, CADENCE)[0].furniture_listings == 77


def test_gone_and_failed_shops_wait(history, selection):
    register_shops(history, [(1, 5), (2, 4)])
    mark_shop_gone(history, 1, T0)
    mark_sync_failed(history, 2, "500", T0, retry_s=100)
    assert ids(due_shops(history, T0 + 99, CADENCE)) == []
    assert ids(due_shops(history, T0 + 100, CADENCE)) == [2]
    assert ids(due_shops(history, T0 + 90 * DAY, CADENCE)) == [2, 1]


def walk(history, shop_id, now):
    """A walk over no reviews."""
    ask = next_review_ask(history, shop_id, now)
    append_review_page(history, Selection.of(), shop_id, ReviewPage(ask, [], 0), now_s=now)


def test_reviews_of_quiet_shops_wait_longest(history, selection):
    register_shops(history, [(1, 5), (2, 50), (3, 1), (4, 1)])
    assert due_reviews(history, T0, CADENCE) == []  # their shops come first
    for shop_id in (1, 2, 3, 4):
        sync(history, selection, shop_id, [], T0)
    assert ids(due_reviews(history, T0, CADENCE)) == [2, 1, 3, 4]
    next_review_ask(history, 3, T0)
    assert ids(due_reviews(history, T0, CADENCE)) == [3, 2, 1, 4]
    for shop_id in (1, 2, 3, 4):
        walk(history, shop_id, T0 + shop_id)
    assert due_reviews(history, T0 + 10, CADENCE) == []
    sync(history, selection, 1, [], T0 + 15 * DAY, review_count=21)
    sync(history, selection, 2, [], T0 + 15 * DAY)
    sync(history, selection, 4, [], T0 + 15 * DAY, review_count=None, review_average=None,
         transaction_sold_count=None)  # fmt: skip
    assert ids(due_reviews(history, T0 + 13 * DAY, CADENCE)) == []
    assert ids(due_reviews(history, T0 + 16 * DAY, CADENCE)) == [1, 4]
    assert ids(due_reviews(history, T0 + 85 * DAY, CADENCE)) == [1, 4, 3, 2]


def test_lag_counts_what_is_behind(history, selection):
    register_shops(history, [(1, 5), (2, 50), (3, 1), (4, 1)])
    sync(history, selection, 1, [listing(10, 1)], T0)
    mark_shop_gone(history, 3, T0)
    begin_shop_sync(history, 2, T0)
    lag = measure_lag(history, T0 + 15 * DAY, CADENCE)
    assert (lag.shops, lag.never_synced, lag.due, lag.under_way, lag.gone) == (4, 2, 1, 1, 1)
    assert lag.most_overdue_s == DAY
    assert (lag.reviews_never_walked, lag.reviews_due, lag.reviews_quiet) == (1, 0, 0)
    assert 0 < lag.calls_per_day < 1


def test_first_answer_takes_milliseconds_at_100_000_shops(path, selection):
    history = open_history(path, selection)
    history.execute("BEGIN")
    history.executemany(
        """INSERT INTO sync_state (shop_id, status, furniture_listings, last_sync, signals,
            signals_walked, reviews_walked) VALUES (?, 'ok', ?, ?, '[1]', ?, ?)""",
        ((n, n % 50, T0 - n, "[1]" if n % 3 else "[0]", T0 - n) for n in range(100_000)),
    )
    history.execute("COMMIT")
    for ask in (due_shops, due_reviews):
        for top in (None, 50):
            began = time.perf_counter()
            found = ask(history, T0 + 14 * DAY, CADENCE, top=top)
            assert time.perf_counter() - began < 0.1
            assert len(found) == 500 if top is None else len(found) <= 50
    began = time.perf_counter()
    assert measure_lag(history, T0, CADENCE).shops == 100_000
    assert time.perf_counter() - began < 1
    history.close()


shops = st.lists(
    st.tuples(
        st.sampled_from(["new", "ok", "gone"]),
        st.integers(0, 3),
        st.integers(0, 40),
        st.none() | st.integers(0, 40),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(shops, st.integers(0, 45), st.none() | st.integers(1, 5))
def test_due_shops_equal_the_rule(tmp_path_factory, known, today, top):
    history = new_history(tmp_path_factory.mktemp("due"))
    for shop_id, (status, size, last, wait) in enumerate(known):
        history.execute(
            "INSERT INTO sync_state (shop_id, status, furniture_listings, last_sync, not_before)"
            " VALUES (?, ?, ?, ?, ?)",
            (
                shop_id,
                status,
                size,
                None if status == "new" else last * DAY,
                (wait or 0) * DAY if status == "gone" or wait is not None else None,
            ),
        )
    by_size = sorted(range(len(known)), key=lambda n: (-known[n][1], n))[: top or len(known)]

    def rank(shop_id):
        status, size, last, wait = known[shop_id]
        if status == "new":
            return (0, -size, shop_id)
        if status == "ok":
            return (1, last, shop_id)
        return (2, wait or 0, shop_id)

    expected = [
        n
        for n in sorted(by_size, key=rank)
        if (known[n][3] or 0) <= today and (known[n][0] != "ok" or today - known[n][2] > 14)
    ]
    assert ids(due_shops(history, today * DAY, CADENCE, top=top)) == expected
    history.close()
