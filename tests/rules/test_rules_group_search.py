"""One member that makes a group call fail is found and named; all others are read."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furnisync.errors import ApiUnavailable, BadRequest
from furnisync.etsy.group_search import search_group

GROUP = tuple(range(1000, 1100))


class Etsy:
    """Fails for each call with one of the poisoned ids."""

    def __init__(self, poisoned, error=ApiUnavailable):
        self.poisoned = set(poisoned)
        self.error = error
        self.read = []
        self.calls = 0

    async def ask(self, ids):
        self.calls += 1
        assert ids
        if self.poisoned.intersection(ids):
            raise self.error("500 Server Error")
        self.read += ids

    def search(self, group=GROUP):
        return asyncio.run(search_group(group, self.ask))


@pytest.mark.parametrize("error", [ApiUnavailable, BadRequest])
@pytest.mark.parametrize("poisoned", GROUP)
def test_one_of_a_hundred_costs_at_most_nine_calls(poisoned, error):
    etsy = Etsy([poisoned], error)
    found = etsy.search()
    assert found.blamed == {poisoned: "500 Server Error"}
    assert found.unread == ()
    assert sorted(etsy.read) == [one for one in GROUP if one != poisoned]
    assert etsy.calls <= 9


@given(st.sets(st.sampled_from(GROUP), max_size=6), st.integers(7, 100))
def test_whoever_is_poisoned_all_others_are_read_once(poisoned, size):
    group = GROUP[:size]
    etsy = Etsy(poisoned)
    found = etsy.search(group)
    if found.unread:
        assert len(poisoned.intersection(group)) >= 3
        assert not etsy.read
        return
    assert set(found.blamed) == poisoned.intersection(group)
    assert sorted(etsy.read) == [one for one in group if one not in poisoned]


def test_where_nothing_succeeds_nobody_is_blamed():
    etsy = Etsy(GROUP)
    found = etsy.search()
    assert found.blamed == {}
    assert found.unread == GROUP
    assert etsy.calls < 40


def test_a_fault_that_passes_blames_nobody():
    etsy = Etsy([])
    faults = iter([True, False, True, True] + [False] * 50)

    async def ask(ids):
        if next(faults):
            raise ApiUnavailable("503")
        await etsy.ask(ids)

    found = asyncio.run(search_group(GROUP, ask))
    assert found.blamed == {}
    assert sorted(etsy.read) == list(GROUP)
