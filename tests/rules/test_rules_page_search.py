"""A page that always fails for one of its results is read around it."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furnisync.errors import ApiUnavailable
from furnisync.etsy.page_search import read_around


class Etsy:
    """A list of numbers; a page that has a poisoned one fails."""

    def __init__(self, poisoned):
        self.poisoned = set(poisoned)
        self.calls = 0

    async def fetch(self, offset, limit):
        self.calls += 1
        page = list(range(offset, offset + limit))
        if self.poisoned.intersection(page):
            raise ApiUnavailable("500 Server Error")
        return page

    def read(self, start, size):
        parts, missing = asyncio.run(read_around(start, size, self.fetch))
        return [one for part in parts for one in part], missing


@given(st.integers(0, 99), st.integers(0, 12_000))
def test_one_result_costs_at_most_fourteen_calls(place, start):
    etsy = Etsy([start + place])
    came, missing = etsy.read(start, 100)
    assert came == [one for one in range(start, start + 100) if one != start + place]
    assert missing == [f"the result at offset {start + place:,}: 500 Server Error"]
    assert etsy.calls <= 14


@given(st.sets(st.integers(0, 99), max_size=2), st.integers(2, 100))
def test_all_others_come_in_order(poisoned, size):
    etsy = Etsy(poisoned)
    here = poisoned.intersection(range(size))
    if len(here) == size:
        return
    came, missing = etsy.read(0, size)
    assert came == [one for one in range(size) if one not in poisoned]
    assert len(missing) == len(here)


def test_where_everything_fails_it_gives_up_soon():
    etsy = Etsy(range(100))
    with pytest.raises(ApiUnavailable):
        etsy.read(0, 100)
    assert etsy.calls <= 16
