import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from history_world import DAY, T0, listing, new_history, rows, shop, stage_batch
from hypothesis import given, settings
from hypothesis import strategies as st

from furnisync.history.arrivals import stage_shop
from furnisync.history.claims import Claims
from furnisync.history.fields.selection import Selection
from furnisync.history.schema import open_history
from furnisync.history.snapshots import append_shop_sync
from furnisync.history.staging import (
    begin_shop_sync,
    finished_syncs,
    open_syncs,
    shop_sync,
    stage_ids,
    stage_list_page,
)
from furnisync.sqlite.database import transaction
from furnisync.sqlite.writer import Writer

HERE = Path(__file__).parent


def test_ids_are_pooled_over_shops_so_that_calls_are_full(history, selection):
    for shop_id in (1, 2, 3):
        begin_shop_sync(history, shop_id, T0)
        ids = range(shop_id * 1000, shop_id * 1000 + 60)
        stage_list_page(history, shop_id, ids, counted=60, next_offset=None)
    claims = Claims()
    first = claims.take(history, full_only=True)
    assert len(first.ids) == 100
    assert first.ids[:60] == tuple(range(1000, 1060))
    assert claims.take(history, full_only=True) is None
    second = claims.take(history)
    assert len(second.ids) == 80
    assert not set(first.ids) & set(second.ids)
    assert claims.take(history) is None
    claims.give_back(first)  # the call failed
    assert claims.take(history) == first
    assert Claims().take(history) == first  # as a new process would


def test_a_batch_finishes_shops_and_carries_their_objects(history, selection):
    begin_shop_sync(history, 1, T0)
    begin_shop_sync(history, 2, T0)
    state = stage_list_page(history, 1, [10, 11], counted=3, next_offset=100)
    assert (state.list_offset, state.counted, state.open_ids) == (100, 3, 2)
    stage_list_page(history, 2, [20], counted=1, next_offset=None)
    claim = Claims().take(history)
    answer = [
        {**listing(10, 1), "shop": shop(1)},
        {**listing(10, 1), "title": "twice"},
        {**listing(20, 2), "shop": None},
        {**listing(99, 9), "shop": shop(9)},
        {"listing_id": None, "title": "no id"},
    ]
    assert stage_batch(history, selection, claim, answer, now_s=T0) == [2]
    assert shop_sync(history, 2).wants_shop
    assert not shop_sync(history, 1).complete  # its list is not read yet
    state = stage_list_page(history, 1, [10, 11], counted=2, next_offset=None)
    assert state.complete
    stage_shop(history, selection, 2, shop(2))
    assert [state.shop_id for state in finished_syncs(history) if state.complete] == [1, 2]
    stage_batch(history, selection, claim, answer, now_s=T0)  # late and again: no harm
    for shop_id in (1, 2):
        append_shop_sync(history, shop_id)
    assert rows(history, "SELECT listing_id, title FROM listings") == [
        (10, listing(10, 1)["title"]),
        (20, listing(20, 2)["title"]),
    ]
    assert rows(history, "SELECT DISTINCT id, value FROM oddities") == [
        (None, '{"listing_id":null,"title":"no id"}')
    ]
    for table in ("work_shops", "work_ids", "work_pages"):
        assert rows(history, f"SELECT * FROM {table}") == []


def test_furniture_only_takes_the_given_ids(history, selection):
    state = begin_shop_sync(history, 1, T0, ids=[10, 11])
    assert (state.list_offset, state.open_ids) == (None, 2)
    claim = Claims().take(history)
    answer = [{**listing(i, 1), "shop": shop(1)} for i in claim.ids]
    assert stage_batch(history, selection, claim, answer, now_s=T0) == [1]
    append_shop_sync(history, 1)
    ended = [{**listing(10, 1, state="expired"), "shop": shop(1)}, answer[1]]
    for days in (15, 30):
        begin_shop_sync(history, 1, T0 + days * DAY, ids=[10, 11])
        claim = Claims().take(history)
        stage_batch(history, selection, claim, ended, now_s=T0)
        append_shop_sync(history, 1)
    assert rows(history, "SELECT state FROM listings_dynamic WHERE listing_id = 10") == [
        ("active",),
        ("expired",),
    ]


def test_beginning_again_takes_up_the_same_sync(history):
    first = begin_shop_sync(history, 1, T0)
    stage_ids(history, 1, [10, 11, 11])
    again = begin_shop_sync(history, 1, T0 + DAY, ids=[11, 12])
    assert again.snapshot_timestamp == first.snapshot_timestamp == T0
    assert again.list_offset == 0
    assert again.open_ids == 3
    assert open_syncs(history) == [again]
    with pytest.raises(LookupError):
        stage_ids(history, 2, [1])


def test_snapshots_of_a_shop_never_share_a_second_even_if_the_clock_is_set_back(history, selection):
    for _ in range(3):
        begin_shop_sync(history, 1, T0, ids=[])
        stage_shop(history, selection, 1, shop(1))
        append_shop_sync(history, 1)
    assert rows(history, "SELECT snapshot_timestamp FROM shops_dynamic") == [
        (T0,), (T0 + 1,), (T0 + 2,),
    ]  # fmt: skip


def test_a_shop_of_17_000_listings_does_not_have_to_fit_in_memory(history, selection):
    with transaction(history):
        begin_shop_sync(history, 1, T0, ids=range(17_000))
    claims = Claims()
    while claim := claims.take(history):
        with transaction(history):
            answer = [{**listing(i, 1), "shop": shop(1)} for i in claim.ids]
            stage_batch(history, selection, claim, answer, now_s=T0)
        claims.give_back(claim)
    tracemalloc.start()
    with transaction(history):
        appended = append_shop_sync(history, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert appended.listing_static == appended.listing_dynamic == appended.active == 17_000
    assert peak < 5_000_000


def test_everything_runs_on_the_writer_thread(path, selection):
    writer = Writer(open_history(path, selection), "history")
    state = writer.submit(begin_shop_sync, 1, T0, ids=[10]).result()
    claims = Claims()
    claim = writer.submit(claims.take).result()
    answer = [{**listing(10, 1), "shop": shop(1)}]
    done = writer.submit(stage_batch, selection, claim, answer, now_s=T0).result()
    assert (state.open_ids, done) == (1, [1])
    assert writer.submit(append_shop_sync, 1).result().active == 1
    writer.close()


CHILD = """
import sys
from pathlib import Path
from history_world import T0, DAY, listing, sync
from furnisync.sqlite.database import transaction
from furnisync.history.schema import open_history
from furnisync.history.fields.selection import Selection
selection = Selection.of()
history = open_history(Path(sys.argv[1]), selection)
print("ready", flush=True)
for number in range(100_000):
    with transaction(history):
        items = [listing(1000 * (number % 7) + i, number % 7) for i in range(40)]
        sync(history, selection, number % 7, items, T0 + number * DAY)
"""


@pytest.mark.processes
@pytest.mark.parametrize("seed", range(4))
def test_killed_at_any_instant_a_shops_rows_are_all_there_or_none(path, selection, seed):
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)],
        stdout=subprocess.PIPE,
        cwd=HERE.parents[1],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (HERE.parents[1], HERE)))},
    )
    child.stdout.readline()
    time.sleep(random.Random(seed).uniform(0.05, 0.6))
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    history = open_history(path, selection)
    shops = rows(history, "SELECT snapshot_timestamp, count(*) FROM shops_dynamic GROUP BY 1")
    listings = rows(history, "SELECT snapshot_timestamp, count(*) FROM listings_dynamic GROUP BY 1")
    assert [(at, 40) for at, _ in shops] == listings
    synced = rows(history, "SELECT sum(last_sync IS NOT NULL), max(last_sync) FROM sync_state")
    assert synced == [(min(7, len(shops)) or None, max((at for at, _ in shops), default=None))]
    assert rows(history, "PRAGMA integrity_check") == [("ok",)]
    history.close()


worlds = st.lists(
    st.tuples(
        st.integers(1, 250),  # days until the next sync
        st.dictionaries(
            st.integers(1, 6), st.sampled_from(["active", "sold_out", "hidden", "absent"])
        ),
        st.integers(1, 4),  # ids a call
    ),
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(worlds)
def test_any_course_of_syncs_equals_the_rules(tmp_path_factory, course):
    """`hidden` is active but not in the list; `absent` is unknown to batch."""
    selection = Selection.of()
    history = new_history(tmp_path_factory.mktemp("course"))
    now, last_state, last_static = T0, {}, {}
    dynamic, static = [], []
    for days, world, size in course:
        now += days * DAY
        begin_shop_sync(history, 1, now)
        listed = [n for n, state in world.items() if state == "active"]
        stage_list_page(history, 1, listed, counted=len(listed), next_offset=None)
        asked = []
        while claim := Claims().take(history, size):
            asked += claim.ids
            answer = [
                listing(n, 1, state="active" if world[n] == "hidden" else world[n])
                for n in claim.ids
                if world.get(n, "absent") != "absent"
            ]
            stage_batch(history, selection, claim, answer, now_s=now)
        stage_shop(history, selection, 1, shop(1))
        append_shop_sync(history, 1)
        live = {n for n, state in last_state.items() if state == "active"}
        assert sorted(asked) == sorted(set(listed) | live)
        for n in asked:
            told = world.get(n, "absent")
            state = {"hidden": "active", "absent": "gone"}.get(told, told)
            dynamic.append((n, now, state))
            if state != "gone" and now - last_static.get(n, -(10**10)) > 182 * DAY:
                static.append((n, now))
                last_static[n] = now
            last_state[n] = state
    order = "ORDER BY listing_id, snapshot_timestamp"
    assert rows(
        history, f"SELECT listing_id, snapshot_timestamp, state FROM listings_dynamic {order}"
    ) == sorted(dynamic)
    assert rows(history, f"SELECT listing_id, snapshot_timestamp FROM listings {order}") == sorted(
        static
    )
    assert len(rows(history, "SELECT 1 FROM shops_dynamic")) == len(course)
    history.close()
