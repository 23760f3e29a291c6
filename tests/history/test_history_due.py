import msgspec
from history_world import DAY, T0, listing, new_history, sync
from hypothesis import given, settings
from hypothesis import strategies as st

from furnisync.clock import WRONG_S
from furnisync.config import DataSettings
from furnisync.history.fields.selection import Selection
from furnisync.history.reviews import (
    ReviewPage,
    append_review_page,
    mark_reviews_failed,
    next_review_ask,
)
from furnisync.history.schedule import (
    Lag,
    due_reviews,
    due_shops,
    forget_waits,
    is_failing,
    measure_lag,
    register_shops,
)
from furnisync.history.schema import open_history
from furnisync.history.snapshots import mark_shop_gone, mark_sync_failed
from furnisync.history.staging import begin_shop_sync

SETTINGS = DataSettings()


def ids(found):
    return [shop.shop_id for shop in found]


def test_never_synced_come_first_by_size_then_the_most_overdue(history, selection):
    register_shops(history, [(1, 5), (2, 50), (3, 5), (4, 9)])
    assert ids(due_shops(history, T0, SETTINGS)) == [2, 4, 1, 3]
    assert ids(due_shops(history, T0, SETTINGS, top=2)) == [2, 4]
    assert ids(due_shops(history, T0, SETTINGS, limit=1)) == [2]
    sync(history, selection, 2, [], T0)
    sync(history, selection, 1, [], T0 - DAY)
    assert ids(due_shops(history, T0 + 14 * DAY, SETTINGS)) == [4, 3, 1]
    assert ids(due_shops(history, T0 + 14 * DAY + 1, SETTINGS)) == [4, 3, 1, 2]
    begin_shop_sync(history, 4, T0)
    assert ids(due_shops(history, T0 + 14 * DAY, SETTINGS)) == [3, 1]
    register_shops(history, [(3, 77)])
    assert due_shops(history, T0, SETTINGS)[0].furniture_listings == 77


def test_gone_and_failed_shops_wait(history, selection):
    register_shops(history, [(1, 5), (2, 4)])
    mark_shop_gone(history, 1, T0)
    mark_sync_failed(history, 2, "500", T0)
    assert ids(due_shops(history, T0 + 3599, SETTINGS)) == []
    assert ids(due_shops(history, T0 + 3600, SETTINGS)) == [2]
    assert ids(due_shops(history, T0 + 90 * DAY, SETTINGS)) == [2, 1]


def walk(history, shop_id, now):
    """A walk over no reviews."""
    ask = next_review_ask(history, shop_id, now)
    append_review_page(history, Selection.of(), shop_id, ReviewPage(ask, [], 0), now_s=now)


def test_reviews_of_quiet_shops_wait_longest(history, selection):
    register_shops(history, [(1, 5), (2, 50), (3, 1), (4, 1)])
    assert due_reviews(history, T0, SETTINGS) == []  # their shops come first
    for shop_id in (1, 2, 3, 4):
        sync(history, selection, shop_id, [], T0)
    assert ids(due_reviews(history, T0, SETTINGS)) == [2, 1, 3, 4]
    next_review_ask(history, 3, T0)
    assert ids(due_reviews(history, T0, SETTINGS)) == [3, 2, 1, 4]
    for shop_id in (1, 2, 3, 4):
        walk(history, shop_id, T0 + shop_id)
    assert due_reviews(history, T0 + 10, SETTINGS) == []
    sync(history, selection, 1, [], T0 + 15 * DAY, review_count=21)
    sync(history, selection, 2, [], T0 + 15 * DAY)
    sync(history, selection, 4, [], T0 + 15 * DAY, review_count=None, review_average=None,
         transaction_sold_count=None)  # fmt: skip
    assert ids(due_reviews(history, T0 + 13 * DAY, SETTINGS)) == []
    assert ids(due_reviews(history, T0 + 16 * DAY, SETTINGS)) == [1, 4]
    assert ids(due_reviews(history, T0 + 85 * DAY, SETTINGS)) == [1, 4, 3, 2]


def test_lag_counts_what_is_behind(history, selection):
    register_shops(history, [(1, 5), (2, 50), (3, 1), (4, 1)])
    sync(history, selection, 1, [listing(10, 1)], T0)
    mark_shop_gone(history, 3, T0)
    begin_shop_sync(history, 2, T0)
    lag = measure_lag(history, T0 + 15 * DAY, SETTINGS)
    assert (lag.shops, lag.never_synced, lag.due, lag.under_way, lag.gone) == (4, 2, 1, 1, 1)
    assert lag.most_overdue_s == DAY
    assert (lag.reviews_never_walked, lag.reviews_due, lag.reviews_quiet) == (1, 0, 0)
    assert 0 < lag.calls_per_day < 1


def make_shops(history, *shops):
    """(status, listings found, last sync, reviews walked, signals, signals of that walk)."""
    history.executemany(
        "INSERT INTO sync_state (shop_id, furniture_listings, status, listings_found, last_sync,"
        " reviews_walked, signals, signals_walked) VALUES (?, 7, ?, ?, ?, ?, ?, ?)",
        [(shop_id, *shop) for shop_id, shop in enumerate(shops, 1)],
    )


def test_lag_estimates_the_calls_of_a_day(history):
    make_shops(
        history,
        ("ok", 250, T0, T0, "a", "a"),  # three pages of its list
        ("ok", None, T0, T0, "a", "b"),  # one, by what image sync knows
        ("gone", 9000, T0, None, None, None),
    )
    settings = msgspec.structs.replace(SETTINGS, sync_days=2, reviews_days=5, reviews_quiet_days=20)
    expected = (3 + 1 + 257 / 100) / 2 + 1 / 5 + 1 / 20
    assert abs(measure_lag(history, T0, settings).calls_per_day - expected) < 1e-9


def test_lag_begins_the_second_after_the_cadence_and_a_time_far_ahead_is_wrong(history):
    make_shops(
        history,
        ("ok", 1, T0, T0, "a", "b"),
        ("ok", 1, T0 + 40 * DAY, None, "a", None),
        ("new", None, None, None, None, None),
    )

    def lag(days, seconds=0):
        found = measure_lag(history, T0 + days * DAY + seconds, SETTINGS)
        return found.due, found.ahead, found.most_overdue_s, found.reviews_due

    assert lag(14) == (1, 1, 0, 0)
    assert lag(14, 1) == (2, 1, 1, 1)
    assert lag(40, -WRONG_S - 1) == (2, 1, 26 * DAY - WRONG_S - 1, 1)
    assert lag(40, -WRONG_S) == (1, 0, 26 * DAY - WRONG_S, 1)
    found = measure_lag(history, T0, SETTINGS)
    assert (found.shops, found.never_synced, found.reviews_never_walked) == (3, 1, 1)
    assert (found.gone, found.failing, found.under_way, found.reviews_quiet) == (0, 0, 0, 0)


def test_an_empty_history_lags_in_nothing(history):
    assert measure_lag(history, T0, SETTINGS) == Lag(*[0] * 13)
    assert not is_failing(history)


def test_the_wait_is_told_in_seconds(history):
    make_shops(
        history,
        ("new", None, None, None, None, None),
        ("ok", 1, T0, T0, "a", "b"),
        ("ok", 1, T0, T0, "a", "a"),
        ("ok", 1, T0, None, "a", None),
    )
    now = T0 + 100 * DAY
    assert [one.overdue_s for one in due_shops(history, now, SETTINGS)] == [None, *[86 * DAY] * 3]
    assert [(one.shop_id, one.overdue_s) for one in due_reviews(history, now, SETTINGS)] == [
        (4, None), (2, 86 * DAY), (3, 16 * DAY),
    ]  # fmt: skip


def test_reviews_are_due_the_second_after_their_cadence(history):
    make_shops(history, ("ok", 1, T0, T0, "a", "b"), ("ok", 1, T0, T0, "a", "a"))

    def due(days, seconds=0, settings=SETTINGS):
        return ids(due_reviews(history, T0 + days * DAY + seconds, settings))

    assert due(14) == []
    assert due(14, 1) == due(84) == [1]
    assert due(84, 1) == [1, 2]
    # A quiet shop never comes before one that is not.
    rare = msgspec.structs.replace(SETTINGS, reviews_days=90, reviews_quiet_days=10)
    assert due(90, settings=rare) == []
    assert due(90, 1, settings=rare) == [1, 2]


def test_the_limit_holds_over_all_reasons(history):
    make_shops(
        history,
        ("new", None, None, None, None, None),
        ("ok", 1, T0, None, "a", None),
        ("ok", 1, T0 + 1, T0, "a", "b"),
        ("ok", 1, T0 + 2, T0, "a", "a"),
    )
    now = T0 + 200 * DAY
    for limit in range(1, 5):
        assert ids(due_shops(history, now, SETTINGS, limit=limit)) == [1, 2, 3, 4][:limit]
    for limit in range(1, 4):
        assert ids(due_reviews(history, now, SETTINGS, limit=limit)) == [2, 3, 4][:limit]
    assert ids(due_reviews(history, now, SETTINGS, top=2)) == [2]


def test_a_failure_waits_until_the_program_is_started_again(history, selection):
    register_shops(history, [(1, 5), (2, 4), (3, 3)])
    sync(history, selection, 2, [], T0)
    sync(history, selection, 3, [], T0)
    mark_sync_failed(history, 1, "500", T0)
    next_review_ask(history, 2, T0)
    mark_reviews_failed(history, 2, "500", T0)
    mark_shop_gone(history, 3, T0)
    assert is_failing(history)
    assert not is_failing(history, top=0)
    assert measure_lag(history, T0, SETTINGS).failing == 2
    assert ids(due_shops(history, T0, SETTINGS)) == ids(due_reviews(history, T0, SETTINGS)) == []
    forget_waits(history)
    assert ids(due_shops(history, T0, SETTINGS)) == [1]
    assert ids(due_reviews(history, T0, SETTINGS)) == [2]


def test_how_often_what_is_asked():
    assert (SETTINGS.sync_days, SETTINGS.static_days, SETTINGS.gone_days) == (14, 182, 90)
    assert (SETTINGS.reviews_days, SETTINGS.reviews_quiet_days) == (14, 84)


def test_the_first_answer_does_not_read_all_shops(path, selection):
    """Counted in steps of SQLite's machine, which do not depend on the speed."""
    history = open_history(path, selection)
    history.execute("BEGIN")
    history.executemany(
        """INSERT INTO sync_state (shop_id, status, furniture_listings, last_sync, signals,
            signals_walked, reviews_walked) VALUES (?, 'ok', ?, ?, '[1]', ?, ?)""",
        ((n, n % 50, T0 - n, "[1]" if n % 3 else "[0]", T0 - n) for n in range(20_000)),
    )
    history.execute("COMMIT")
    thousands = []
    history.set_progress_handler(lambda: thousands.append(1), 1000)
    for ask in (due_shops, due_reviews):
        thousands.clear()
        assert len(ask(history, T0 + 14 * DAY, SETTINGS, limit=100)) == 100
        assert len(thousands) < 10
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
    assert ids(due_shops(history, today * DAY, SETTINGS, top=top)) == expected
    history.close()
