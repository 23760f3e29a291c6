"""The crawl plan: cut where listings lie, merged where they have gone, cheap, kept in its file."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from bisect import bisect_left, bisect_right
from contextlib import closing

import pytest
from coverage_world import DAY_S, FREE, SMALL, TINY_IMAGES, Home, calls, calls_of, furniture
from hypothesis import given
from hypothesis import strategies as st

from furnisync.catalog import frontier, oversize
from furnisync.catalog.schema import open_catalog
from furnisync.clock import SystemClock
from furnisync.crawl.furniture_filter import FurnitureFilter
from furnisync.crawl.list_reader import ListReader
from furnisync.crawl.paging import page_grid
from furnisync.crawl.pass_reader import PassReader
from furnisync.crawl.plan_file import load_plan
from furnisync.crawl.price_split import HIGHEST, MERGE_BELOW, TARGET, cut, merge
from furnisync.etsy.models import Listing, Money, Page
from furnisync.etsy.taxonomy import Node, Tree
from furnisync.limits import ETSY_PAGING
from furnisync.sandbox.process import SandboxProcess
from furnisync.sqlite.writer import Writer

LISTINGS = 13_000


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A home after `plan --dry-run`, `plan`, `plan` again and a sync; what each asked and said."""
    with SandboxProcess(shops=60, listings=LISTINGS, reviews_mean=1, **TINY_IMAGES, **FREE) as one:
        home = Home(tmp_path_factory.mktemp("plan"), one, images={"which": "primary"})
        steps = {}
        for name, command in (
            ("dry", ("plan", "--dry-run")),
            ("plan", ("plan",)),
            ("again", ("plan",)),
            ("sync", ("images", "--fast")),
            ("after", ("plan", "--dry-run")),
            ("looked", ("plan",)),
            ("resync", ("images", "--fast")),
        ):
            one.reset_asked()
            said = home.run(*command, timeout_s=200).out
            steps[name] = (calls(one), calls_of(one, "listings/active"), said, home.plan())
        yield home, steps


def breaks_of(plan):
    return plan["taxonomies"][0]["price_breaks"]


def test_a_dry_run_asks_nothing(planned):
    _, steps = planned
    number, _, said, plan = steps["dry"]
    assert number == 0
    assert plan == {}  # nothing is written either
    assert "not known" in said
    assert steps["after"][0] == 0


def test_planning_asks_first_pages_only_and_saves_its_cuts(planned):
    home, steps = planned
    _, pages, said, plan = steps["plan"]
    breaks = breaks_of(plan)
    assert breaks == sorted(breaks)
    assert len(breaks) > 2
    # The page of all, and the first page of each piece.
    assert pages <= 1 + 2 * (len(breaks) - 1)
    truth = [row["price_usd"] for row in furniture(home.sandbox).values()]
    for low, high in itertools.pairwise(breaks):
        assert sum(low <= price <= high for price in truth) <= ETSY_PAGING.reach
        assert f"{high:,.10g}" in said or high == HIGHEST
    assert "pages" in said


def test_planning_twice_costs_nothing_more(planned):
    _, steps = planned
    assert steps["again"][0] == 0
    assert steps["again"][3] == steps["plan"][3]


def test_the_sync_goes_on_from_the_plan(planned):
    _, steps = planned
    pages = steps["plan"][1] + steps["sync"][1]
    # What the plan asked the sync did not ask again; each piece ends on a page not full.
    assert pages <= LISTINGS / 98 + 2 * len(breaks_of(steps["plan"][3])) + 2
    assert f"{LISTINGS // 100} batch" in steps["after"][2]


def test_a_look_at_the_plan_within_a_cycle_begins_no_pass(planned):
    home, steps = planned
    assert steps["looked"][:3] == steps["after"][:3]
    assert steps["resync"][0] == 0
    assert home.coverage()["complete"]


def test_neighbours_that_shrank_are_merged_and_all_else_is_kept(tmp_path):
    with SandboxProcess(**SMALL) as sandbox:
        home = Home(tmp_path / "home", sandbox)
        home.write_plan(0, 20, 50, 50.5, 200, 1_000_000, note="my own")
        before = home.plan()
        home.sync()
        assert breaks_of(home.plan()) == breaks_of(before), "no pass has counted yet"
        home.later(31 * DAY_S)
        sandbox.reset_asked()
        home.sync()
        after = home.plan()
        assert breaks_of(after) == [0, 1_000_000]
        assert calls_of(sandbox, "listings/active") <= 5
        after["taxonomies"][0]["price_breaks"] = breaks_of(before)
        assert after == before
        assert home.coverage()["listings_found"] == len(furniture(sandbox))


def test_several_nodes_each_by_its_own_breaks(tmp_path):
    with SandboxProcess(**SMALL) as sandbox:
        home = Home(tmp_path / "home", sandbox)
        entries = [
            {"id": 993, "name": "tables", "price_breaks": [0, 60, 1_000_000]},
            {"id": 12371, "name": "inside 993", "price_breaks": [10, 20]},
            {"id": 999, "name": "office", "price_breaks": [0, 1_000_000]},
        ]
        home.plan_path.write_text(json.dumps({"taxonomies": entries}))
        home.sync()
        certificate = home.coverage()
        lines = [(one["taxonomy_id"], one["low"], one["high"]) for one in certificate["intervals"]]
        assert lines == [(993, None, 60), (993, 60, None), (999, None, None)]
        tables = {993, 12371, 12372, 999, 1000, 1001, 12408}
        there = {i for i, row in furniture(sandbox).items() if row["taxonomy_id"] in tables}
        assert home.ids("SELECT listing_id FROM listings WHERE state = 'active'") >= there


def events(home):
    return [one["message"] for one in home.status()["events"] if one["kind"] == "taxonomy"]


def test_nodes_that_come_and_go_are_told_once(tmp_path):
    with SandboxProcess(**SMALL) as sandbox:
        home = Home(tmp_path / "home", sandbox)
        home.plan_path.write_text(
            json.dumps(
                {
                    "taxonomies": [
                        {"id": 967, "name": "Furniture", "price_breaks": [0, 50, 1_000_000]},
                        {"id": 997, "name": "Slipcovers", "price_breaks": [0, 1_000_000]},
                    ]
                }
            )
        )
        home.sync()
        assert not events(home)
        sandbox.add_node(99_001, "Hammocks", 967)
        sandbox.add_node(99_002, "Not furniture", None)
        sandbox.drop_node(997)
        home.later(31 * DAY_S)
        home.sync()
        told = events(home)
        assert sorted(told) == [
            "Etsy added taxonomy nodes: 99001 Hammocks",
            "Etsy dropped taxonomy nodes: 997 Slipcovers",
        ]
        assert [one["id"] for one in home.plan()["taxonomies"]] == [967, 997]
        home.later(31 * DAY_S)
        home.sync()
        assert events(home) == told
        assert home.coverage()["complete"]
        home.run("plan")


def test_a_plan_with_nothing_but_dropped_nodes_is_the_users_to_repair(tmp_path):
    with SandboxProcess(**SMALL) as sandbox:
        home = Home(tmp_path / "home", sandbox)
        home.write_plan(0, 1_000_000, taxonomy_id=997)
        home.sync()
        sandbox.drop_node(997)
        home.later(31 * DAY_S)
        ended = home.run("images", "--fast", status=2)
        assert "997" in ended.errors + ended.out


# -- the rules ----------------------------------------------------------------------------------


@given(
    prices=st.lists(st.integers(1, 300_000).map(lambda cents: cents / 100), max_size=200),
    bounds=st.tuples(st.integers(0, 2000), st.integers(1, 2000)).map(
        lambda ends: (float(ends[0]), float(sum(ends)))
    ),
    count=st.integers(ETSY_PAGING.reach + 1, 700_000),
)
def test_cuts_lie_inside_and_between_cents(prices, bounds, count):
    low, high = bounds
    cuts = cut(low, high, count, prices)
    assert cuts, "an interval that is no single price can be cut"
    assert cuts == sorted(set(cuts))
    assert all(low < one < high for one in cuts)
    assert not set(cuts) & set(prices)


@given(
    st.lists(st.integers(0, 9_000), min_size=1, max_size=60),
    st.sets(st.integers(0, 59), max_size=10),
)
def test_merging_keeps_ends_and_never_makes_one_too_long(numbers, uncounted):
    breaks = (*map(float, range(len(numbers))), HIGHEST)
    ends = [
        (low or None, None if high == HIGHEST else high) for low, high in itertools.pairwise(breaks)
    ]
    counts = {
        one: number
        for place, (one, number) in enumerate(zip(ends, numbers, strict=True))
        if place not in uncounted
    }
    merged = merge(breaks, counts)
    assert (merged[0], merged[-1]) == (breaks[0], breaks[-1])
    assert set(merged) <= set(breaks)
    for low, high in itertools.pairwise(merged):
        inside = range(breaks.index(low), breaks.index(high))
        if len(inside) > 1:
            assert not uncounted & set(inside)
            assert sum(numbers[place] for place in inside) < MERGE_BELOW
    assert merge(merged, counts) == merged or len(merged) < len(breaks)


# -- what planning 600,000 listings costs ---------------------------------------------------------


HEAVY = (19.99, 25, 35, 45, 49, 50, 65, 75, 85, 95, 99, 100, 120, 150, 175, 199, 200, 250)
HEAVY_HIGH = (299, 300, 350, 400, 450, 499, 500, 600, 750, 800, 950, 1200, 1500, 2400)
"""Prices with some 10,000 and 6,400 listings each."""


class PriceList:
    """Etsy's counts over 600,000 prices; only first pages, oldest first, are asked for."""

    def __init__(self, number: int, seed: int) -> None:
        self.rng = random.Random(seed)
        # Oldest first; older listings are cheaper, so a first page misleads.
        prices = [self._price(0.6 + 0.8 * place / number) for place in range(number)]
        self.ordered = sorted((price, place) for place, price in enumerate(prices))
        self.only = [price for price, _ in self.ordered]
        self.asked = 0

    def _price(self, factor: float) -> float:
        kind = self.rng.random()
        if kind < 0.30:
            return self.rng.choice(HEAVY)
        if kind < 0.45:
            return self.rng.choice(HEAVY_HIGH)
        return round(min(max(self.rng.lognormvariate(5.2, 1.2) * factor, 0.2), 50_000), 2)

    async def listings_active(self, *, prices, offset, sort_on, sort_order, **_):
        assert (offset, sort_on, sort_order) == (0, "created", "asc")
        self.asked += 1
        min_price, max_price = prices
        low = 0 if min_price is None else bisect_left(self.only, min_price)
        high = len(self.only) if max_price is None else bisect_right(self.only, max_price)
        oldest = sorted((place, price) for price, place in self.ordered[low:high])[:100]
        items = [
            Listing(
                listing_id=1 + place,
                taxonomy_id=1,
                created_timestamp=1 + place,
                price=Money(round(price * 100), 100, "USD"),
            )
            for place, price in oldest
        ]
        return Page(high - low, items, [], len(items))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_planning_600_000_listings_costs_little(tmp_path, seed):
    number = 600_000
    client = PriceList(number, seed)
    plan = load_plan(tmp_path / "plan.json", None)
    tree = Tree([Node(967, None, "Furniture"), Node(1, 967, "all")])
    clock = SystemClock()
    with closing(Writer(open_catalog(tmp_path / "catalog.db"), "catalog")) as writer:
        reader = ListReader(client, writer, clock, FurnitureFilter(tree, [1]), 20)
        passes = PassReader(reader, writer, clock, tree, tmp_path / "plan.json")
        current = asyncio.run(passes.plan_ahead(plan))
        pending = writer.submit(frontier.pending_intervals, current.pass_id).result()
        counts = writer.submit(
            oversize.interval_counts, current.pass_id, read_whole=False
        ).result()[967]
    assert len(counts) == len(pending)
    assert max(counts.values()) <= ETSY_PAGING.reach
    assert sum(counts.values()) == number
    reading = number / 98
    planned = client.asked - len(pending) + sum(len(page_grid(one)) for one in counts.values())
    assert planned <= 1.03 * reading, (client.asked, len(pending), planned / reading)
    saved = load_plan(tmp_path / "plan.json", None).taxonomies[0].price_breaks
    assert len(saved) == len(pending) + 1
    assert sum(counts.values()) / len(counts) > TARGET / 3
