"""Two ends of a list that no query shows whole: what they prove when they meet."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from furnisync.catalog.frontier import PageRow
from furnisync.crawl.paging import next_of_order, next_reads
from furnisync.limits import Paging

SMALL_PAGES = Paging(page_size=5, offset_cap=20)
"""One end shows 25 listings."""


class Giant:
    """Listings by creation; some end, some are renewed, some join."""

    def __init__(self, size, rng):
        self.rng = rng
        self.created = dict(enumerate(range(size)))
        self.clock = size
        self.first = set(self.created)

    def shift(self, changes):
        for _ in range(changes):
            self.clock += 1
            listing = self.rng.choice(sorted(self.created)) if self.created else -1
            kind = self.rng.randrange(3)
            if kind == 0 or listing < 0:
                self.created[1000 + self.clock] = self.clock
            elif kind == 1:
                del self.created[listing]
            else:
                self.created[listing] = self.clock

    def page(self, start, *, newest_first):
        rows = sorted(self.created.items(), key=lambda one: one[1], reverse=newest_first)
        return tuple(rows[start : start + SMALL_PAGES.page_size]), len(rows)


def read(giant, part, ground, chance):
    """Walk one end; returns its pages and how many reads they took."""
    pages: dict[int, PageRow] = {}
    reads = 0
    while True:
        decision = next_reads([pages[start] for start in sorted(pages)], part, ground, SMALL_PAGES)
        if not decision.starts:
            return decision, pages, reads
        wave = 1 + max((page.wave for page in pages.values()), default=0)
        for start in decision.starts:
            giant.shift(int(giant.rng.random() < chance))
            items, count = giant.page(start, newest_first=part == "newest")
            tries = pages[start].tries + 1 if start in pages else 1
            pages[start] = PageRow(start, len(items), count, items, tries, wave)
            reads += 1


def items_of(pages):
    return {item for page in pages.values() for item in page.items}


def ground_of(pages):
    """As `crawl.load_ground` makes it: without the newest second."""
    items = items_of(pages)
    newest = max((created for _, created in items), default=0)
    return frozenset(item for item in items if item[1] < newest)


@given(
    size=st.integers(26, 60),
    rng=st.integers(0, 10_000).map(random.Random),
    chance=st.sampled_from([0.0, 0.1, 0.4]),
    pause=st.integers(0, 15),
)
@settings(max_examples=300, deadline=None)
def test_where_the_ends_meet_nothing_lies_between(size, rng, chance, pause):
    giant = Giant(size, rng)
    done, oldest, _ = read(giant, "oldest", frozenset(), chance)
    if not done.complete:
        return  # told as stuck: read anew
    giant.shift(pause)  # a day without calls
    ground = ground_of(oldest)
    done, newest, _ = read(giant, "newest", ground, chance)
    if done.complete and ground & items_of(newest):
        seen = {listing for listing, _ in items_of(oldest) | items_of(newest)}
        lasted = giant.first & giant.created.keys()
        assert not lasted - seen


@pytest.mark.parametrize("size", [26, 30, 40, 45])
def test_the_second_end_reads_what_the_first_left_and_meets_it(size):
    giant = Giant(size, random.Random(1))
    _, oldest, _ = read(giant, "oldest", frozenset(), 0.0)
    ground = ground_of(oldest)
    _, newest, reads = read(giant, "newest", ground, 0.0)
    assert ground & items_of(newest)
    left = size - len(ground)
    assert reads <= -(-left // SMALL_PAGES.stride) + 3


def test_beyond_both_ends_they_do_not_meet():
    giant = Giant(80, random.Random(1))
    _, oldest, _ = read(giant, "oldest", frozenset(), 0.0)
    done, newest, _ = read(giant, "newest", ground_of(oldest), 0.0)
    assert done.complete
    assert not ground_of(oldest) & items_of(newest)


def test_orders_that_prove_nothing_are_read_once():
    assert next_of_order([], SMALL_PAGES).starts == (0,)
    page = PageRow(0, 5, 40, (), 1, 1)
    assert next_of_order([page], SMALL_PAGES).starts == (5, 10, 15, 20)
    rest = [PageRow(start, 5, 40, (), 1, 2) for start in (5, 10, 15, 20)]
    assert next_of_order([page, *rest], SMALL_PAGES).complete
