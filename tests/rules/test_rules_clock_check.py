"""When our clock is taken as right, off or wrong: one that moves at will, and what Etsy says."""

from __future__ import annotations

import asyncio

import pytest

from furnisync.errors import ApiUnavailable, ClockWrong
from furnisync.quota import clock_check
from furnisync.quota.clock_check import DOUBT_FIRST_S, ClockCheck

HOUR = 3600.0
SLEEP = asyncio.sleep
YEARS = 10 * 365 * 86_400.0


class World:
    """Two clocks, ours and Etsy's; time passes only where somebody sleeps or asks."""

    def __init__(self, ahead_s=0.0):
        self.mono = 1000.0
        self.ahead_s = ahead_s
        self.pings = 0
        self.told = []
        self.ping_says = self.behind
        self.set_after_s = None
        self.check = ClockCheck(self, self._ping, self.told.append, float("inf"))

    def monotonic(self):
        return self.mono

    def now(self):
        return 1_790_000_000.0 + self.mono + self.ahead_s

    def behind(self):
        return -self.ahead_s

    async def _ping(self):
        self.pings += 1
        self.mono += 0.1
        said = self.ping_says()
        if isinstance(said, Exception):
            raise said
        return said

    async def sleep(self, seconds):
        await SLEEP(0)  # others run meanwhile
        self.mono += seconds
        if self.set_after_s is not None and self.mono > 1000.0 + self.set_after_s:
            self.ahead_s, self.set_after_s = 0.0, None

    def run(self, work):
        return asyncio.run(work)


@pytest.fixture
def world(monkeypatch):
    found = World()
    monkeypatch.setattr(asyncio, "sleep", found.sleep)
    return found


def test_a_right_clock_costs_nothing_after_the_first_answer(world):
    assert world.run(world.check.admits(0.4))
    assert world.run(world.check.trusted_now()) == world.now()
    assert (world.pings, world.told, world.check.is_known_right) == (0, [None], True)


def test_without_an_answer_one_ping_is_asked(world):
    world.run(world.check.trusted_now())
    world.run(world.check.trusted_now())
    assert world.pings == 1


@pytest.mark.parametrize("ahead_s", [YEARS, -YEARS, 2 * HOUR, -2 * HOUR])
def test_hours_off_waits_until_it_is_set(world, ahead_s):
    world.ahead_s, world.set_after_s = ahead_s, 5 * HOUR
    true_now = world.now() - ahead_s
    now = world.run(world.check.trusted_now())
    assert now == world.now()
    assert 5 * HOUR < now - true_now < 5 * HOUR + 2, "it goes on as soon as the clock is set"
    assert [state and state.wrong for state in world.told] == [True, None]
    assert world.told[0].behind_s == -ahead_s
    assert abs(world.told[0].since - true_now) < 2, "since when is told by Etsy's clock"


def test_an_answer_that_came_under_a_wrong_clock_is_asked_for_again(world):
    world.run(world.check.trusted_now())
    world.ahead_s, world.set_after_s = YEARS, HOUR
    assert not world.run(world.check.admits(-YEARS))
    assert world.run(world.check.admits(0.0))


def test_while_it_is_wrong_etsy_s_time_is_told(world):
    world.ahead_s = YEARS
    world.check.patience_s = 60.0
    with pytest.raises(ClockWrong, match="3,650 days ahead of Etsy's"):
        world.run(world.check.trusted_now())
    assert abs(world.check.now() - (world.now() - YEARS)) < 1
    assert not world.check.is_known_right


@pytest.mark.parametrize("odd_s", [YEARS, -3 * HOUR])
def test_one_odd_date_stops_nothing(world, odd_s):
    assert world.run(world.check.admits(0.0))
    assert world.run(world.check.admits(odd_s))
    assert world.pings == 1
    for _ in range(50):
        assert world.run(world.check.admits(odd_s))
    assert world.pings == 1, "a cache that is odd for ever costs a ping now and then"
    world.mono += DOUBT_FIRST_S + 1
    assert world.run(world.check.admits(odd_s))
    assert world.pings == 2
    assert world.told == [None]


def test_pings_that_contradict_each_other_decide_nothing(world):
    odd = iter([5 * HOUR, -9 * HOUR, 40 * HOUR])
    world.ping_says = lambda: next(odd)
    world.run(world.check.trusted_now())
    assert (world.told, world.check.is_known_right) == ([], False)


def test_without_any_date_it_goes_on_unknown(world):
    world.ping_says = lambda: None
    assert world.run(world.check.admits(None))
    world.run(world.check.trusted_now())
    assert (world.told, world.check.is_known_right) == ([], False)


def test_a_clock_that_is_set_between_two_answers_is_compared_before_a_time_is_written(world):
    assert world.run(world.check.admits(0.0))
    world.ahead_s = YEARS  # nothing was answered since
    world.set_after_s = HOUR
    world.run(world.check.trusted_now())
    assert [state and state.wrong for state in world.told] == [None, True, None]


def test_a_machine_that_slept_is_compared_once(world):
    assert world.run(world.check.admits(0.0))
    world.ahead_s += 8 * HOUR  # monotonic time stood still
    world.ping_says = lambda: 0.0
    world.run(world.check.trusted_now())
    world.run(world.check.trusted_now())
    assert (world.pings, world.told) == (1, [None])


def test_a_machine_whose_both_clocks_stood_still_is_found_out(world):
    """A suspended virtual machine: only Etsy's Date tells."""
    assert world.run(world.check.admits(0.0))
    world.ahead_s, world.set_after_s = -8 * HOUR, 60.0
    world.ping_says = lambda: -world.ahead_s
    assert not world.run(world.check.admits(8 * HOUR))


def test_minutes_off_is_told_once_and_when_it_ends(world, caplog):
    for _ in range(9):
        assert world.run(world.check.admits(-300.0))
    for _ in range(9):
        assert world.run(world.check.admits(0.0))
    assert [state and round(state.behind_s) for state in world.told] == [-300, None]
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "5 minutes ahead of Etsy's" in caplog.records[0].message


def test_one_slow_minute_is_no_wrong_clock(world):
    for behind_s in (0.0, -70.0, 0.0, 0.0, -70.0, 0.0):
        assert world.run(world.check.admits(behind_s))
    assert world.told == [None]


def test_an_api_that_is_away_says_nothing_of_the_clock(world):
    world.ping_says = lambda: ApiUnavailable("away")
    with pytest.raises(ApiUnavailable):
        world.run(world.check.trusted_now())
    assert world.told == []


def test_an_api_that_is_away_while_the_clock_is_wrong_is_waited_for(world):
    said = iter([-YEARS, -YEARS, -YEARS, ApiUnavailable("away"), 0.0])
    world.ping_says = lambda: next(said)
    world.run(world.check.trusted_now())
    assert world.pings == 5


def test_many_that_wait_are_all_told_to_ask_again(world):
    world.ahead_s, world.set_after_s = YEARS, HOUR

    async def all_at_once():
        return await asyncio.gather(*(world.check.admits(-YEARS) for _ in range(40)))

    assert world.run(all_at_once()) == [False] * 40
    assert world.pings <= 3 + HOUR / clock_check.PROBE_EVERY_S + 1
