"""A list as Etsy keeps it: sorted by creation, shifting between any two answers."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from furnisync.catalog.frontier import PageRow
from furnisync.crawl.paging import next_reads
from furnisync.limits import ETSY_PAGING, Paging


@dataclass
class ShiftingList:
    """Listings oldest first; times are whole and never the same for two."""

    size: int
    paging: Paging = ETSY_PAGING
    clock: int = 0
    rows: list[tuple[int, int]] = field(default_factory=list)
    renewed: set[int] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)
    born: set[int] = field(default_factory=set)
    events: int = 0

    def __post_init__(self):
        self.rows = [(1000 + place, place) for place in range(self.size)]
        self.clock = self.next_id = self.size
        self.first = {listing for listing, _ in self.rows}

    def create(self):
        self.clock += 1
        self.next_id += 1
        self.rows.append((10_000_000 + self.next_id, self.clock))
        self.events += 1

    def end(self, place: float):
        if self.rows:
            listing, _ = self.rows.pop(int(place * len(self.rows)))
            self.ended.add(listing)
            self.events += 1

    def renew(self, place: float):
        if self.rows:
            self.clock += 1
            listing, _ = self.rows.pop(int(place * len(self.rows)))
            self.rows.append((listing, self.clock))
            self.events += 1

    def page(self, start: int, *, newest_first: bool = False):
        rows = self.rows[::-1] if newest_first else self.rows
        return tuple(rows[start : start + self.paging.page_size]), len(rows)

    def must_be_seen(self) -> set[int]:
        """Those that were there from the beginning to the end, renewed or not."""
        return self.first - self.ended


class StillReading(AssertionError):
    """More reads than the bound."""


@dataclass
class Walker:
    """Does what `next_reads` says, as `ListReader` and the catalog do."""

    world: ShiftingList
    part: str = "whole"
    pages: dict[int, PageRow] = field(default_factory=dict)
    reads: int = 0
    seen: set[int] = field(default_factory=set)

    def walk(self, *, shift, order=None, interrupted=lambda: False, fault=None, bound=10_000):
        """Until `next_reads` says that it is over; `shift()` runs before each single answer."""
        while True:
            decision = next_reads(
                [self.pages[start] for start in sorted(self.pages)],
                self.part,
                paging=self.world.paging,
            )
            if not decision.starts:
                return decision
            wave = 1 + max((page.wave for page in self.pages.values()), default=0)
            starts = list(decision.starts)
            assert len(set(starts)) == len(starts)
            assert all(0 <= start <= self.world.paging.offset_cap for start in starts)
            if order is not None:
                order.shuffle(starts)
            for start in starts:
                shift()
                self._read(start, wave, fault)
                if self.reads > bound:
                    raise StillReading(f"{self.reads} reads for {self.world.size} listings")
                if interrupted():
                    break

    def _read(self, start, wave, fault):
        items, count = self.world.page(start, newest_first=self.part == "newest")
        self.reads += 1
        before = self.pages.get(start)
        tries = 1 + (before.tries if before else 0)
        if fault is not None:
            items, count = fault(items, count, start, tries)
        self.seen.update(listing for listing, _ in items)
        self.pages[start] = PageRow(start, len(items), count, items, tries, wave)


def churning(world: ShiftingList, rng: random.Random, chance: float, burst: int = 1):
    """A `shift` that, with this chance, does up to `burst` random changes."""

    def shift():
        if rng.random() >= chance:
            return
        for _ in range(rng.randint(1, burst)):
            kind = rng.randrange(3)
            if kind == 0:
                world.create()
            elif kind == 1:
                world.end(rng.random())
            else:
                world.renew(rng.random())

    return shift
