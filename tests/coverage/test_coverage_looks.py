"""Newest-first looks: what they find, what they cost, what they do not lose."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import closing

import pytest
from coverage_world import DAY_S, HOUR_S, SMALL, Home, calls, calls_of, furniture

from furnisync.catalog import frontier, listings
from furnisync.catalog.schema import get_meta, open_catalog, set_meta
from furnisync.crawl import incremental
from furnisync.crawl.furniture_filter import FurnitureFilter
from furnisync.crawl.incremental import LOOKED_AT, IncrementalReader
from furnisync.errors import ApiUnavailable
from furnisync.etsy.models import Listing, Page
from furnisync.etsy.taxonomy import Node, Tree
from furnisync.limits import Paging
from furnisync.sandbox.process import SandboxProcess
from furnisync.sqlite.writer import Writer


@pytest.fixture
def synced(tmp_path):
    """A home that has read all of a small sandbox, an hour ago."""
    with SandboxProcess(**SMALL) as sandbox:
        home = Home(tmp_path / "home", sandbox)
        home.sync()
        home.later(2 * HOUR_S)
        sandbox.reset_asked()
        yield home


def a_shop(sandbox, currency="USD"):
    return next(
        one["shop_id"]
        for one in sandbox.truth_shops()
        if one["findable"] and one["api"]["currency_code"] == currency
    )


def active(home):
    return home.ids("SELECT listing_id FROM listings WHERE state = 'active'")


def create(sandbox, number, **choices):
    change = {"op": "create", "shop_id": a_shop(sandbox), "n": number, "taxonomy_id": 977,
              "images": 1, **choices}  # fmt: skip
    return set(sandbox.churn(change)[0]["listing_ids"])


def test_a_few_new_listings_cost_one_look_and_one_batch(synced):
    new = create(synced.sandbox, 7)
    synced.sync()
    assert new <= active(synced)
    assert calls(synced.sandbox) == 2
    synced.sandbox.reset_asked()
    synced.sync()
    assert calls(synced.sandbox) == 0, "looked at again within the hour"


def test_more_new_listings_than_a_page(synced):
    new = create(synced.sandbox, 250)
    synced.sync()
    assert new <= active(synced)
    assert calls_of(synced.sandbox, "listings/active") == 3
    assert calls_of(synced.sandbox, "listings/batch") == 3


def test_a_renewed_listing_costs_nothing_more(synced):
    some = sorted(furniture(synced.sandbox))[:5]
    synced.sandbox.churn({"op": "renew", "listing_ids": some})
    synced.sync()
    assert calls(synced.sandbox) == 1
    told = dict(synced.rows("SELECT listing_id, created FROM listings"))
    truth = furniture(synced.sandbox)
    assert {one: told[one] for one in some} == {one: truth[one]["created"] for one in some}


def test_a_listing_that_came_back_is_taken_up_by_the_next_look(synced):
    some = sorted(furniture(synced.sandbox))[:3]
    synced.sandbox.churn({"op": "end", "listing_ids": some, "state": "sold_out"})
    synced.run("images", "--fast", str(ids_file(synced, some)))
    assert not active(synced) & set(some)
    synced.sandbox.churn({"op": "bring_back", "listing_ids": some})
    synced.later(2 * HOUR_S)
    synced.sync()
    assert active(synced) >= set(some)


def ids_file(home, ids):
    path = home.path / "ids.txt"
    path.write_text("\n".join(map(str, ids)))
    return path


def test_a_look_that_fails_reaches_back_the_next_time(synced):
    new = create(synced.sandbox, 150)
    synced.sandbox.set_faults(
        [{"where": "api", "call": "listings/active", "match": {"offset": "98"}, "do": "503"}]
    )
    synced.sync(status=1, timeout_s=200)
    assert not new <= active(synced)
    synced.sandbox.set_faults([])
    synced.later(3 * DAY_S)
    synced.sync()
    assert new <= active(synced)


# -- the rule itself, against a list of our own ----------------------------------------------

SMALL_PAGES = Paging(page_size=5, offset_cap=20)
TREE = Tree([Node(1, None, "all"), Node(2, 1, "left"), Node(3, 1, "right")])


class Shelf:
    """Listings by node; answers pages newest first; `before` runs ahead of each answer."""

    def __init__(self):
        self.items: dict[int, tuple[int, int]] = {}  # listing_id: (node, moment)
        self.asked: list[tuple[int, int]] = []
        self.before = lambda _: None
        self.seen: set[int] = set()

    def add(self, listing_id, moment, node=2):
        self.items[listing_id] = (node, moment)

    async def listings_active(self, *, taxonomy_id, sort_on, sort_order, offset):
        self.before(len(self.asked))
        self.asked.append((taxonomy_id, offset))
        below = TREE.subtree(taxonomy_id)
        rows = sorted(
            ((at, one) for one, (node, at) in self.items.items() if node in below), reverse=True
        )
        page = [
            Listing(listing_id=one, created_timestamp=at, updated_timestamp=at, taxonomy_id=2)
            for at, one in rows[offset : offset + SMALL_PAGES.page_size]
        ]
        self.seen |= {one.listing_id for one in page}
        return Page(len(rows), page, [], len(page))


class Now:
    def __init__(self):
        self.at = 1_000_000.0

    def now(self):
        return self.at

    def monotonic(self):
        return self.at


@pytest.fixture
def desk(tmp_path):
    """(shelf, clock, catalog's writer); pages of 5 up to offset 20."""
    connection = open_catalog(tmp_path / "catalog.db")
    with closing(Writer(connection, "catalog")) as writer:
        shelf, clock = Shelf(), Now()
        writer.submit(set_meta, LOOKED_AT, str(int(clock.at) - 3600)).result()
        yield shelf, clock, writer


def look(desk, sort="look"):
    shelf, clock, writer = desk
    looker = IncrementalReader(shelf, writer, clock, FurnitureFilter(TREE, [1]), SMALL_PAGES)
    return asyncio.run(looker.look() if sort == "look" else looker.sweep_changed())


def meta(desk, key):
    return desk[2].submit(get_meta, key).result()


def fill(shelf, clock, number, node=2, first_id=1):
    for place in range(number):
        shelf.add(first_id + place, int(clock.at) - 10 - place, node)
    for place in range(50):
        shelf.add(10_000 + first_id + place, int(clock.at) - 90_000 - place, node)
    return set(range(first_id, first_id + number))


@pytest.mark.parametrize("number", [0, 1, 4, 5, 6, 19])
def test_a_look_reads_to_known_ground_and_no_further(desk, number):
    shelf, clock, _ = desk
    new = fill(shelf, clock, number)
    assert look(desk) == "reached"
    assert new <= shelf.seen
    assert len(shelf.asked) == max(1, -(-(number - 4) // 3) + 1)
    assert meta(desk, LOOKED_AT) == str(int(clock.at))
    assert meta(desk, "walk_created") is None


def test_beyond_the_reach_the_child_nodes_are_read(desk):
    shelf, clock, _ = desk
    new = fill(shelf, clock, 18, node=2) | fill(shelf, clock, 18, node=3, first_id=101)
    assert look(desk) == "reached"
    assert new <= shelf.seen
    assert {node for node, _ in shelf.asked} == {1, 2, 3}


def test_more_new_than_a_leaf_shows_is_told_and_not_asked_again(desk):
    shelf, clock, _ = desk
    fill(shelf, clock, 60)
    assert look(desk) == "beyond"
    assert meta(desk, LOOKED_AT) == str(int(clock.at))


def test_what_entered_the_index_late_is_seen_by_the_next_look(desk):
    shelf, clock, _ = desk
    fill(shelf, clock, 2)
    assert look(desk) == "reached"
    late = int(clock.at) - incremental.INDEX_LAG_S + 1
    shelf.add(77, late)
    clock.at += 3600
    for place in range(12):
        shelf.add(500 + place, int(clock.at) - 5 - place)
    assert look(desk) == "reached"
    assert 77 in shelf.seen


def test_listings_that_end_between_two_pages_hide_no_other(desk):
    shelf, clock, _ = desk
    new = fill(shelf, clock, 18)

    def end_four(number):
        if number == 2:  # those of the first page
            for one in range(1, 5):
                del shelf.items[one]

    shelf.before = end_four
    assert look(desk) == "reached"
    assert new <= shelf.seen


def test_a_look_that_broke_off_goes_on_where_it_was(desk):
    shelf, clock, _ = desk
    new = fill(shelf, clock, 18)

    def fail_once(number):
        if number == 3:
            shelf.before = lambda _: None
            shelf.asked.append((1, -1))
            raise ApiUnavailable("gone for a while")

    shelf.before = fail_once
    assert look(desk) == "failed"
    assert meta(desk, LOOKED_AT) == str(int(clock.at) - 3600)
    began = int(clock.at)
    clock.at += 7200
    fill(shelf, clock, 2, first_id=900)
    assert look(desk) == "reached"
    assert new <= shelf.seen
    offsets = [offset for _, offset in shelf.asked]
    assert offsets[:4] == [0, 3, 6, -1]
    assert offsets[4] == 9, "pages that had come were asked for again"
    assert meta(desk, LOOKED_AT) == str(began), "what came meanwhile is the next look's"


def test_short_pages_are_asked_for_again(desk):
    shelf, clock, _ = desk
    new = fill(shelf, clock, 4)
    answer = shelf.listings_active
    cut = itertools.count()

    async def short_at_first(**asked):
        page = await answer(**asked)
        if next(cut) == 0:
            shelf.seen.clear()
            return Page(page.count, page.items[:1], [], 1)
        return page

    shelf.listings_active = short_at_first
    assert look(desk) == "reached"
    assert new <= shelf.seen


def test_a_sweep_is_done_once(desk):
    shelf, clock, writer = desk
    new = fill(shelf, clock, 6)
    assert look(desk, "sweep") == "reached"
    assert not shelf.asked
    writer.submit(set_meta, frontier.SWEEP_SINCE, str(int(clock.at) - 3600)).result()
    assert look(desk, "sweep") == "reached"
    assert new <= shelf.seen
    assert meta(desk, frontier.SWEEP_SINCE) is None


def test_known_ground_is_the_later_of_look_and_pass(desk):
    _, clock, writer = desk

    def with_pass(connection):
        at = int(clock.at) - 100
        pass_id = frontier.begin_pass(connection, "1:0-1", [(1, None, None)], at)
        interval = frontier.pending_intervals(connection, pass_id)[0]
        frontier.mark_interval_done(connection, interval.interval_id, None, at)
        assert frontier.finish_pass(connection, pass_id, at)
        listings.add_listed(connection, [], at)
        return incremental.known_since(connection)

    assert writer.submit(with_pass).result() == int(clock.at) - 100
