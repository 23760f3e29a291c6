"""What an answer of batch completes is appended at once, to the same rows as from the staging."""

import msgspec
import pytest
from history_world import DAY, T0, listing, new_history, rows, shop, stage_batch, sync

from furnisync.history.claims import Claims
from furnisync.history.outbox_rows import take_answer
from furnisync.history.snapshots import append_shop_sync, take_batch
from furnisync.history.staging import begin_shop_sync, open_syncs, stage_list_page
from furnisync.outbox import Answer, Cursor

TABLES = ("shops", "shops_dynamic", "listings", "listings_dynamic", "oddities", "sync_state")
KNOWN = {
    10: listing(10, 1),
    11: listing(11, 1, quantity="many"),
    12: listing(12, 1, state="sold_out"),
    20: listing(20, 2),
    30: listing(30, 3, views=None),
}
SHOPS = {1: [10, 11, 12, 13], 2: [20, 21], 3: [30]}
"""13 and 21 are listed, but batch does not know them."""
LATER = {**{i: KNOWN[i] for i in (10, 12, 20, 30)}, 13: listing(13, 1)}


def whole(known, ids):
    return [{**known[i], "shop": shop(known[i]["shop_id"])} for i in ids if i in known]


def begin(history, now):
    for shop_id, ids in SHOPS.items():
        begin_shop_sync(history, shop_id, now)
        stage_list_page(history, shop_id, ids, counted=len(ids), next_offset=None)


def content(history):
    return {table: rows(history, f"SELECT * FROM {table} ORDER BY 1, 2, 3") for table in TABLES}


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_the_same_rows_at_once_as_from_the_staging(tmp_path, selection, size):
    for name in ("staged", "direct"):
        (tmp_path / name).mkdir()
    staged, direct = (new_history(tmp_path / name) for name in ("staged", "direct"))
    for days, known in ((0, KNOWN), (15, LATER), (400, KNOWN)):
        now = T0 + days * DAY
        for history in (staged, direct):
            begin(history, now)
        while claim := Claims().take(staged, size):
            for shop_id in stage_batch(
                staged, selection, claim, whole(known, claim.ids), now_s=now
            ):
                append_shop_sync(staged, shop_id)
        ended = {}
        while claim := Claims().take(direct, size):
            taken = take_batch(direct, selection, claim, whole(known, claim.ids), now_s=now)
            assert taken.wants_shop == []
            ended |= taken.appended
        assert ended.keys() == SHOPS.keys()
        assert ended[1].counted == 4
        assert content(direct) == content(staged)
        assert open_syncs(direct) == []
        assert rows(direct, "SELECT * FROM work_pages") == []
    for history in (staged, direct):
        history.close()


def test_a_shop_that_did_not_ride_along_is_still_wanted(history, selection):
    begin(history, T0)
    claim = Claims().take(history)
    taken = take_batch(history, selection, claim, list(KNOWN.values()), now_s=T0)
    assert (taken.appended, sorted(taken.wants_shop)) == ({}, [1, 2, 3])
    assert len(open_syncs(history)) == 3


def test_an_answer_that_comes_twice_does_no_harm(history, selection):
    begin(history, T0)
    claim = Claims().take(history)
    for _ in range(2):
        take_batch(history, selection, claim, whole(KNOWN, claim.ids), now_s=T0)
    assert rows(history, "SELECT count(*) FROM listings_dynamic") == [(5,)]


@pytest.mark.parametrize("last_is_staged", [True, False])
def test_an_answer_that_comes_while_a_shop_is_staged_doubles_nothing(
    tmp_path, selection, last_is_staged
):
    """Image sync's answer is newer than what waits to be appended: its rows stay, alone."""
    history = new_history(tmp_path)
    begin(history, T0)
    claim = Claims().take(history)
    if last_is_staged:
        stage_batch(history, selection, claim, whole(KNOWN, claim.ids), now_s=T0)
    body = msgspec.json.encode([{**KNOWN[20], "views": 99}])
    answer = Answer(Cursor("images", 1), T0 + 12, body)
    assert take_answer(history, selection, answer, answer.objects(), now_s=T0 + 12,
                       static_days=182.0) == 1  # fmt: skip
    if last_is_staged:
        appended = append_shop_sync(history, 2)
    else:
        taken = take_batch(history, selection, claim, whole(KNOWN, claim.ids), now_s=T0)
        appended = taken.appended[2]
    assert appended.active == 1
    assert rows(history, "SELECT snapshot_timestamp, views FROM listings_dynamic"
                " WHERE listing_id = 20") == [(T0 + 12, 99)]  # fmt: skip
    assert rows(history, "SELECT snapshot_timestamp FROM listings WHERE listing_id = 20") == [
        (T0 + 12,)
    ]


def test_a_row_of_a_wrong_clock_keeps_no_answer_out(tmp_path, selection):
    history = new_history(tmp_path)
    sync(history, selection, 2, [KNOWN[20]], T0 + 3650 * DAY)
    history.execute("UPDATE listings_dynamic SET wrong_clock = 1")
    sync(history, selection, 2, [{**KNOWN[20], "views": 99}], T0)
    assert rows(history, "SELECT views FROM listings_dynamic WHERE wrong_clock IS NULL") == [(99,)]
