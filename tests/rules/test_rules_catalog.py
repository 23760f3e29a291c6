"""The catalog on real SQLite: claims, outcomes, counters, what lists and batch tell."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from furnisync.catalog import frontier, image_queue, listings, shops
from furnisync.catalog.frontier import PageRow
from furnisync.catalog.image_queue import Shown
from furnisync.catalog.listings import Batched, ImageRow, Listed
from furnisync.catalog.run_scope import restrict
from furnisync.catalog.schema import open_catalog
from furnisync.config import SIZES
from furnisync.image_job import REFUSED_BY_SETTINGS, ImageJob, ImageOutcome, ImageReason, ReasonCode
from furnisync.sqlite.database import transaction

DAY = 86_400
NOW = 1_790_000_000


@pytest.fixture
def catalog(tmp_path):
    connection = open_catalog(tmp_path / "catalog.db")
    yield connection
    connection.close()


def add(
    connection, listing_id=1, images=3, *, which="all", url="https://i/{}/il_570xN.jpg", now=NOW
):
    rows = [ImageRow(listing_id * 100 + n, n, url.format(n)) for n in range(1, images + 1)]
    listings.add_listed(connection, [Listed(listing_id, 7, 967, 10.0, NOW - DAY)], now)
    image_queue.add_images(connection, [Shown(listing_id, rows)], which, now)
    return [(listing_id, row.image_id) for row in rows]


def row(connection, key, columns="*"):
    return connection.execute(
        f"SELECT {columns} FROM images WHERE listing_id = ? AND image_id = ?", key
    ).fetchone()


def fetched(key, result, reason=None, **facts):
    if result == "done":
        facts = {"file": f"{key[0]}_{key[1]}.jpg", "size_bytes": 45_000, "sha256": b"x", **facts}
    return ImageOutcome(ImageJob(*key, "https://i/"), result, reason, **facts)


SLOW = ImageReason(ReasonCode.TRANSFER_FAILED, "timed out after 60 s")


# -- claims cost the same at any size ------------------------------------------------------------


def plan_of(connection, work):
    """The query plans of the statements that `work` runs."""
    statements = []
    connection.set_trace_callback(statements.append)
    work()
    connection.set_trace_callback(None)
    return [
        " | ".join(line["detail"] for line in connection.execute(f"EXPLAIN QUERY PLAN {one}"))
        for one in statements
    ]


@pytest.mark.parametrize(
    ("claim", "index"),
    [
        (lambda c: image_queue.claim_images(c, NOW, {(1, 101)}, 500), "images_queue"),
        (image_queue.next_image_due, "images_queue"),
        (lambda c: listings.claim_batch(c, NOW, {1}, 100), "listings_batch"),
        (lambda c: image_queue.recent_files(c, NOW), "images_done"),
    ],
)
def test_claims_walk_their_partial_index(catalog, claim, index):
    with transaction(catalog):
        for listing_id in range(1, 300):
            add(catalog, listing_id)
    catalog.execute("ANALYZE")
    (plan,) = plan_of(catalog, lambda: claim(catalog))
    assert f"INDEX {index} " in plan
    assert "SEARCH" in plan
    assert "TEMP B-TREE" not in plan


def test_shops_that_are_due_are_found_by_their_key(catalog):
    (plan,) = plan_of(catalog, lambda: shops.due_shops(catalog, NOW, 0, 10))
    assert "TEMP B-TREE" not in plan


def test_what_is_due_longest_comes_first_and_nothing_twice(catalog):
    keys = add(catalog, 1, now=NOW) + add(catalog, 2, now=NOW - 50)
    first = [
        (one.listing_id, one.image_id) for one in image_queue.claim_images(catalog, NOW, set(), 2)
    ]
    assert {listing for listing, _ in first} == {2}
    rest = image_queue.claim_images(catalog, NOW, set(first), 500)
    assert {(one.listing_id, one.image_id) for one in rest} == set(keys) - set(first)
    assert image_queue.claim_images(catalog, NOW - 60, set(), 500) == []
    restrict(catalog, [1])
    scoped = image_queue.claim_images(catalog, NOW, set(), 500, restricted=True)
    assert {one.listing_id for one in scoped} == {1}
    assert image_queue.next_image_due(catalog) == NOW - 50
    assert image_queue.next_image_due(catalog, restricted=True) == NOW


# -- how an image fares ---------------------------------------------------------------------------


def tries_until_settled(catalog, verdict, most=20):
    """(status, seconds to the next try) after each try, the last without a next."""
    (key,) = add(catalog, images=1)
    now, told = NOW, []
    for _ in range(most):
        image_queue.record_outcomes(catalog, [fetched(key, verdict, SLOW)], "570xN", now)
        status, next_try, attempts = row(catalog, key, "status, next_try, attempts")
        assert row(catalog, key, "reason, reason_detail")[:] == (SLOW.code, SLOW.detail)
        told.append((status, None if next_try is None else next_try - now))
        if next_try is None:
            break
        assert attempts == len(told)
        now = next_try
    return told


def test_gone_is_believed_at_once(catalog):
    assert tries_until_settled(catalog, "gone") == [("gone", None)]


def test_bad_is_tried_at_once_then_ever_more_rarely_but_for_ever(catalog):
    told = tries_until_settled(catalog, "bad", most=8)
    weeks = [7 * DAY * number for number in (1, 2, 4, 8, 8, 8, 8)]
    assert told == [("pending", 2), *(("bad", pause) for pause in weeks)]


def test_failed_is_tried_ever_more_rarely_but_for_ever(catalog):
    told = tries_until_settled(catalog, "failed", most=16)
    hours = [3600 * 2**n for n in range(8)]
    assert [pause for _, pause in told[:11]] == [2, 10, 30, *hours]
    assert {pause for _, pause in told[11:]} == {7 * DAY}
    assert [status for status, _ in told] == ["pending"] * 3 + ["failed"] * 13


def test_done_forgets_what_went_wrong_before(catalog):
    (key,) = add(catalog, images=1)
    image_queue.record_outcomes(catalog, [fetched(key, "failed", SLOW)], "570xN", NOW)
    image_queue.record_outcomes(catalog, [fetched(key, "done", width=570)], "570xN", NOW + 2)
    found = row(catalog, key)
    assert (found["status"], found["next_try"], found["attempts"]) == ("done", None, 0)
    assert (found["reason"], found["reason_detail"]) == (None, None)
    assert (found["size"], found["bytes"]) == ("570xN", 45_000)
    assert (found["width"], found["done_at"]) == (570, NOW + 2)


def test_an_outcome_of_an_image_that_is_not_known_is_nothing(catalog):
    image_queue.record_outcomes(
        catalog, [fetched((5, 5), "gone"), fetched((5, 6), "done")], "75x75", NOW
    )
    assert catalog.execute("SELECT count(*) FROM images").fetchone()[0] == 0


@pytest.mark.parametrize("verdict", ["gone", "bad", "failed"])
def test_a_larger_size_that_cannot_be_had_keeps_the_smaller_file(catalog, verdict):
    (key,) = add(catalog, images=1)
    image_queue.record_outcomes(catalog, [fetched(key, "done")], "570xN", NOW)
    assert image_queue.apply_wanted(catalog, "fullxfull", "all", SIZES[:6], NOW + 1) == 1
    assert row(catalog, key, "status, file")[:] == ("pending", "1_101.jpg")
    now = NOW + 1
    for _ in range(6):
        image_queue.record_outcomes(catalog, [fetched(key, verdict, SLOW)], "fullxfull", now)
        found = row(catalog, key)
        assert (found["file"], found["size"], found["bytes"]) == ("1_101.jpg", "570xN", 45_000)
        if found["next_try"] is None:
            break
        now = found["next_try"]
    assert row(catalog, key)["status"] == "done"


def test_a_size_that_is_wanted_no_more_is_not_fetched(catalog):
    keys = add(catalog)
    image_queue.record_outcomes(catalog, [fetched(key, "done") for key in keys], "570xN", NOW)
    assert image_queue.apply_wanted(catalog, "fullxfull", "all", SIZES[:6], NOW) == 3
    assert image_queue.apply_wanted(catalog, "fullxfull", "all", SIZES[:6], NOW) == 0
    assert image_queue.apply_wanted(catalog, "570xN", "all", SIZES[:2], NOW) == 0
    assert image_queue.claim_images(catalog, NOW + DAY, set(), 500) == []
    assert {row(catalog, key)["status"] for key in keys} == {"done"}
    assert image_queue.apply_wanted(catalog, "75x75", "all", (), NOW) == 0


@pytest.mark.parametrize("code", sorted(REFUSED_BY_SETTINGS))
def test_what_the_settings_refused_is_queued_again_when_they_change(catalog, code):
    one, other, here = add(catalog)
    image_queue.apply_refusals(catalog, "i1", NOW)
    for _ in range(5):
        image_queue.record_outcomes(
            catalog, [fetched(one, "bad", ImageReason(code, "9"))], "570xN", NOW
        )
        image_queue.record_outcomes(
            catalog,
            [fetched(other, "bad", ImageReason(ReasonCode.NOT_AN_IMAGE, "HTML"))],
            "570xN",
            NOW,
        )
    image_queue.record_outcomes(catalog, [fetched(here, "done")], "570xN", NOW)
    assert image_queue.apply_refusals(catalog, "i1", NOW) == 0
    assert image_queue.apply_refusals(catalog, "i1,i2", NOW) == 1
    assert [claim.image_id for claim in image_queue.claim_images(catalog, NOW, set(), 9)] == [
        one[1]
    ]
    assert row(catalog, one, "status, attempts")[:] == ("pending", 0)


def test_primary_only_and_back(catalog):
    keys = add(catalog)
    assert image_queue.apply_wanted(catalog, "570xN", "primary", SIZES[:2], NOW) == 0
    assert [row(catalog, key)["status"] for key in keys] == ["pending", "unwanted", "unwanted"]
    more = add(catalog, 2, which="primary")
    assert [row(catalog, key)["status"] for key in more] == ["pending", "unwanted", "unwanted"]
    assert len(image_queue.claim_images(catalog, NOW, set(), 500)) == 2
    assert image_queue.apply_wanted(catalog, "570xN", "all", SIZES[:2], NOW) == 4
    assert len(image_queue.claim_images(catalog, NOW, set(), 500)) == 6


def test_a_larger_size_of_the_primary_image_only(catalog):
    keys = add(catalog)
    image_queue.record_outcomes(catalog, [fetched(key, "done") for key in keys], "570xN", NOW)
    assert image_queue.apply_wanted(catalog, "fullxfull", "primary", SIZES[:6], NOW) == 1
    assert [row(catalog, key)["status"] for key in keys] == ["pending", "done", "done"]


def test_batch_naming_an_image_again(catalog):
    keys = add(catalog, url="https://i/{}/a.jpg")
    for key, verdict in zip(keys, ("gone", "bad", "done"), strict=True):
        image_queue.record_outcomes(catalog, [fetched(key, verdict)], "570xN", NOW)
    image_queue.record_outcomes(catalog, [fetched(keys[1], "bad")], "570xN", NOW)
    add(catalog, url="https://i/{}/a.jpg", now=NOW + 5)
    assert [row(catalog, key)["status"] for key in keys] == ["pending", "bad", "done"]
    add(catalog, url="https://i/{}/b.jpg", now=NOW + 9)  # a new url is a new chance
    assert [row(catalog, key)["status"] for key in keys] == ["pending", "pending", "done"]
    assert row(catalog, keys[1])["attempts"] == 0
    assert {row(catalog, key)["url"][-5:] for key in keys} == {"b.jpg"}


def test_damaged_files_are_queued_anew(catalog):
    (key,) = add(catalog, images=1)
    image_queue.record_outcomes(catalog, [fetched(key, "done")], "570xN", NOW)
    assert image_queue.recent_files(catalog, NOW) == [(*key, "1_101.jpg", b"x")]
    image_queue.requeue(catalog, [key], ReasonCode.DAMAGED, NOW + 1)
    assert row(catalog, key, "status, file, reason")[:] == ("pending", None, "damaged")
    assert len(image_queue.claim_images(catalog, NOW + 1, set(), 5)) == 1


# -- what lists and batch tell ---


def listing(catalog, listing_id=1):
    return catalog.execute("SELECT * FROM listings WHERE listing_id = ?", (listing_id,)).fetchone()


def batched(listing_id=1, state="active"):
    return Batched(listing_id, 7, 967, state, 10.0, NOW - DAY, [])


def test_a_new_listing_waits_for_batch_and_a_known_one_does_not(catalog):
    add(catalog, images=0)
    assert listings.claim_batch(catalog, NOW, set(), 100) == [1]
    listings.record_batch(catalog, [batched()], NOW, NOW + 30 * DAY)
    add(catalog, images=0, now=NOW + DAY)
    assert listings.claim_batch(catalog, NOW + DAY, set(), 100) == []
    assert listing(catalog)["last_listed"] == NOW + DAY
    assert listings.claim_batch(catalog, NOW + 30 * DAY, set(), 100) == [1]


def test_a_list_that_tells_less_takes_nothing_away(catalog):
    add(catalog, images=0)
    listings.add_listed(catalog, [Listed(1, None, None, None, None)], NOW + 1)
    found = listing(catalog)
    assert (found["shop_id"], found["taxonomy_id"], found["price_usd"]) == (7, 967, 10.0)
    assert catalog.execute("SELECT count(*) FROM shops").fetchone()[0] == 1


@pytest.mark.parametrize("state", ["sold_out", "expired", "inactive", "gone"])
def test_a_listing_that_ended_is_left_in_peace_until_a_list_names_it(catalog, state):
    add(catalog, images=0)
    listings.record_batch(catalog, [batched(state=state)], NOW, NOW + DAY)
    assert listings.claim_batch(catalog, NOW + 400 * DAY, set(), 100) == []
    add(catalog, images=0, now=NOW + 400 * DAY)
    assert listing(catalog)["state"] == "active"
    assert listings.claim_batch(catalog, NOW + 400 * DAY, set(), 100) == [1]


def test_one_odd_answer_of_batch_costs_no_listing(catalog):
    add(catalog, images=0)
    listings.record_absent(catalog, [1], NOW, None)
    assert (listing(catalog)["state"], listing(catalog)["batch_due"]) == ("active", NOW)
    listings.record_absent(catalog, [1], NOW, None)
    assert (listing(catalog)["state"], listing(catalog)["batch_due"]) == ("gone", NOW + 7 * DAY)
    listings.record_batch(catalog, [batched()], NOW + 7 * DAY, NOW + 37 * DAY)
    found = listing(catalog)
    assert (found["state"], found["batch_tries"], found["reason"]) == ("active", 0, None)


def test_a_listing_that_no_list_named_lately_is_gone_at_once(catalog):
    add(catalog, images=0)
    listings.record_absent(catalog, [1], NOW + 2 * DAY, None)
    assert (listing(catalog)["state"], listing(catalog)["batch_due"]) == ("gone", None)


def test_a_broken_answer_proves_nothing(catalog):
    add(catalog, images=0)
    for _ in range(5):
        listings.record_absent(catalog, [1], NOW + 9 * DAY, "broken answer")
        assert listing(catalog)["state"] == "active"
        assert listing(catalog)["reason"] == "broken answer"
    assert listing(catalog)["batch_due"] == NOW + 10 * DAY


def test_ids_of_a_file_are_asked_for_known_or_not(catalog):
    listings.want_batch(catalog, [5, 6], NOW)
    assert sorted(listings.claim_batch(catalog, NOW, {6}, 100)) == [5]
    restrict(catalog, ())
    assert listings.claim_batch(catalog, NOW, set(), 100, restricted=True) == []
    restrict(catalog, [6])
    assert listings.claim_batch(catalog, NOW, set(), 100, restricted=True) == [6]
    listings.postpone_batch(catalog, [5], NOW + 3600, "no answer")
    assert listings.claim_batch(catalog, NOW, set(), 100) == [6]
    listings.want_batch(catalog, [5], NOW)
    assert sorted(listings.claim_batch(catalog, NOW, set(), 100)) == [5, 6]


def test_after_a_whole_pass_the_unseen_are_looked_up(catalog):
    for number, last in ((1, NOW - DAY), (2, NOW - DAY), (3, NOW + 5)):
        add(catalog, number, 0, now=last)
        listings.record_batch(catalog, [batched(number)], last, NOW + 90 * DAY)
    pass_id = frontier.begin_pass(catalog, "967", [(967, None, None)], NOW)
    listings.add_listed(catalog, [Listed(1, 7, 967, 9.0, NOW)], NOW + 2, pass_id)
    assert listings.want_unseen(catalog, pass_id, NOW + 10) == 1
    assert listings.claim_batch(catalog, NOW + 10, set(), 100) == [2]


def test_a_pass_goes_on_where_it_was_left(tmp_path):
    path = tmp_path / "catalog.db"
    connection = open_catalog(path)
    bounds = [(967, None, 50.0), (967, 50.0, None)]
    pass_id = frontier.begin_pass(connection, "967:0-1000000", bounds, NOW)
    first, second = frontier.pending_intervals(connection, pass_id)
    page = PageRow(0, 2, 2, ((1, NOW), (2, None)), wave=3)
    frontier.save_page(connection, first.interval_id, page, NOW)
    frontier.mark_interval_done(connection, first.interval_id, 2, NOW)
    frontier.save_page(connection, second.interval_id, page, NOW)
    frontier.save_page(connection, second.interval_id, page, NOW)
    connection.close()

    connection = open_catalog(path)
    assert frontier.open_pass(connection).pass_id == pass_id
    assert frontier.pending_intervals(connection, pass_id) == [second]
    (again,) = frontier.load_pages(connection, second.interval_id)
    assert (again.items, again.tries, again.wave) == (page.items, 2, 3)
    frontier.forget_pages(connection, second.interval_id)
    assert frontier.load_pages(connection, second.interval_id) == []
    frontier.mark_interval_failed(connection, second.interval_id, "no answer", NOW)
    assert not frontier.finish_pass(connection, pass_id, NOW)
    assert frontier.retry_failed(connection, pass_id) == 1
    frontier.mark_interval_done(connection, second.interval_id, 2, NOW)
    assert frontier.finish_pass(connection, pass_id, NOW)
    assert frontier.last_complete_pass(connection).pass_id == pass_id
    assert frontier.open_pass(connection) is None
    connection.close()


def test_a_shop_goes_on_where_it_was_left_and_leaves_nothing(catalog):
    (whole,) = frontier.begin_shop(catalog, 7)
    assert frontier.begin_shop(catalog, 7) == [whole]
    frontier.split_interval(catalog, whole, [(None, None, None)], "oldest", "long")
    (oldest,) = frontier.begin_shop(catalog, 7)
    assert oldest.part == "oldest"
    frontier.save_page(catalog, oldest.interval_id, PageRow(0, 0, 0, ()), NOW)
    frontier.end_shop(catalog, 7)
    for table in ("pages", "intervals"):
        assert catalog.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 0


# -- whatever happens, in whatever order ---

ids = st.integers(1, 4)
which = st.sampled_from(["all", "primary"])
keys = st.tuples(ids, st.integers(1, 4))


class Catalog(RuleBasedStateMachine):
    """Counters equal recounts, and no image is lost between queue and disk."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.connection = open_catalog(Path(self.folder.name) / "catalog.db")
        self.connection.execute("PRAGMA synchronous = OFF")
        self.now = NOW
        self.size, self.which = "570xN", "all"

    def teardown(self):
        self.connection.close()
        self.folder.cleanup()

    @rule(seconds=st.sampled_from([0, 1, 3600, 8 * DAY]))
    def wait(self, seconds):
        self.now += seconds

    @rule(listing_id=ids, shop=st.one_of(st.none(), ids))
    def list_names(self, listing_id, shop):
        listings.add_listed(self.connection, [Listed(listing_id, shop, 967, 5.0, 1)], self.now)

    @rule(
        listing_id=ids,
        state=st.sampled_from(["active", "sold_out", None]),
        images=st.lists(st.integers(1, 4), unique=True),
        url=st.sampled_from("ab"),
        whole=st.booleans(),
    )
    def batch_tells(self, listing_id, state, images, url, whole):
        rows = [ImageRow(image, rank, url) for rank, image in enumerate(images, start=1)]
        listings.want_batch(self.connection, [listing_id], self.now)
        one = Batched(listing_id, 1, 967, state, 5.0, 1, rows)
        listings.record_batch(self.connection, [one], self.now, self.now + DAY)
        image_queue.add_images(
            self.connection, [Shown(listing_id, rows, whole)], self.which, self.now
        )

    @rule(listing_id=ids, broken=st.sampled_from([None, "broken"]))
    def batch_leaves_out(self, listing_id, broken):
        listings.want_batch(self.connection, [listing_id], self.now)
        listings.record_absent(self.connection, [listing_id], self.now, broken)

    @rule(key=keys, verdict=st.sampled_from(["done", "gone", "bad", "failed"]))
    def fetch_ends(self, key, verdict):
        before = row(self.connection, key)
        image_queue.record_outcomes(self.connection, [fetched(key, verdict)], self.size, self.now)
        if before is not None and before["file"] is not None:
            assert row(self.connection, key)["file"] == before["file"]

    @rule(size=st.sampled_from(SIZES), which=which)
    def settings_change(self, size, which):
        self.size, self.which = size, which
        larger_than = SIZES[: SIZES.index(size)]
        image_queue.apply_wanted(self.connection, size, which, larger_than, self.now)
        if which == "all":
            missing = "file IS NULL AND status = 'unwanted'"
            assert not self.connection.execute(f"SELECT 1 FROM images WHERE {missing}").fetchone()

    @rule(key=keys)
    def file_is_damaged(self, key):
        if (found := row(self.connection, key)) is not None and found["file"] is not None:
            image_queue.requeue(self.connection, [key], ReasonCode.DAMAGED, self.now)

    @invariant()
    def counters_are_true(self):
        counted = dict(self.connection.execute("SELECT name, value FROM counters WHERE value <> 0"))
        truth = {}
        for table, column in (("listings", "state"), ("images", "status")):
            rows = self.connection.execute(
                f"SELECT '{table}.' || coalesce({column}, 'unknown'), count(*) FROM {table}"
                " GROUP BY 1"
            )
            truth |= dict(rows.fetchall())
        truth["shops"] = self.connection.execute("SELECT count(*) FROM shops").fetchone()[0]
        truth["images.bytes"] = self.connection.execute(
            "SELECT coalesce(sum(bytes), 0) FROM images"
        ).fetchone()[0]
        ours = {name: value for name, value in counted.items() if name in truth or "." in name}
        for name, value in truth.items():
            assert ours.get(name, 0) == value, name

    @invariant()
    def each_status_means_what_it_says(self):
        for one in self.connection.execute("SELECT * FROM images"):
            status, queued = one["status"], one["next_try"] is not None
            assert queued or status not in ("pending", "failed")
            assert not queued or status not in ("gone", "unwanted")
            assert status != "done" or one["file"] is not None
            assert status != "unwanted" or one["file"] is None
            assert one["attempts"] >= 0


Catalog.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestCatalog = Catalog.TestCase
