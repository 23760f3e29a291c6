"""The pure rules on a clock that the tests move: never above the limit, hardly below the target."""

import heapq
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quota_world import most_in_a_second

from furnisync.config import QuotaSettings
from furnisync.quota.lease import book_slots
from furnisync.quota.rules import (
    JITTER_S,
    Caller,
    Go,
    Pause,
    book_grant,
    decide,
    factor,
    forget_wants,
    key_rate,
    program_rate,
    reserve,
)
from furnisync.quota.state import Facts, Hold, Instant, Key, Program, elapsed_s

NOW = Instant(5000.0, 1_795_000_000.0)
UNBOUND = QuotaSettings(fast_per_second=1000.0)


def known_key(limit: float = 100.0, **more) -> Key:
    return Key(heard=NOW, limit_per_second=limit, **more)


def simulate(key: Key, programs: dict[str, Program], seconds: float, lateness) -> dict:
    """Let programs that always want calls poll as told, each time late by `lateness()`."""
    key.programs |= programs
    now, end = NOW.mono, NOW.mono + seconds
    polls = [(now, name) for name in programs]
    granted = {name: [] for name in programs}
    while polls[0][0] < end:
        at, name = heapq.heappop(polls)
        moment = Instant(at, NOW.wall + at - NOW.mono)
        caller = Caller(name, programs[name])
        verdict = decide(key, caller, Facts(), moment)
        if isinstance(verdict, Go):
            book_grant(key, caller, Facts(), moment)
            granted[name].append(at)
            heapq.heappush(polls, (at, name))
        else:
            if verdict.in_line:
                programs[name].wants["1.1"] = at
            heapq.heappush(polls, (at + min(verdict.seconds, 1.0) + lateness(), name))
    return granted


@settings(max_examples=150, deadline=None)
@given(
    limit=st.integers(1, 200),
    seed=st.integers(0, 2**32),
    stall_s=st.sampled_from([0.0, 0.005, 0.02, 0.1, 0.9, 3.0]),
    share=st.sampled_from([0.0, 50.0, 60.0, 100.0]),
)
def test_no_second_ever_holds_more_calls_than_the_limit(limit, seed, stall_s, share) -> None:
    dice = random.Random(seed)
    chosen = QuotaSettings(fast_per_second=1000.0, images_share_percent=share)
    programs = {name: Program("fast", chosen) for name in ("images", "data")}
    granted = simulate(
        known_key(limit),
        programs,
        6.0,
        lambda: stall_s * dice.random() if dice.random() < 0.2 else 0.001 * dice.random(),
    )
    assert most_in_a_second(granted["images"] + granted["data"]) <= limit


@settings(max_examples=25, deadline=None)
@given(limit=st.integers(1, 200), seed=st.integers(0, 2**32), both=st.booleans())
def test_the_target_is_reached_in_spite_of_short_stalls(limit, seed, both) -> None:
    dice = random.Random(seed)
    key = known_key(limit)
    names = ("images", "data") if both else ("images",)
    granted = simulate(
        key,
        {name: Program("fast", UNBOUND) for name in names},
        30.0,
        lambda: 0.01 * dice.random() if dice.random() < 0.1 else 0.001,
    )
    total = sum(len(instants) for instants in granted.values())
    assert total >= 0.97 * 30.0 * key_rate(key, UNBOUND, NOW) - 1


@pytest.mark.parametrize("share", [0.0, 10.0, 50.0, 60.0, 99.0, 100.0])
def test_the_share_is_kept_to_the_call(share) -> None:
    chosen = QuotaSettings(images_share_percent=share)
    programs = {name: Program("fast", chosen) for name in ("data", "images")}
    granted = simulate(known_key(), programs, 40.0, lambda: 0.001)
    counts = {name: len(instants) for name, instants in granted.items()}
    expected = min(max(share, 1.0), 99.0) / 100
    assert counts["images"] / sum(counts.values()) == pytest.approx(expected, abs=0.01)
    assert min(counts.values()) > 0


def test_an_idle_share_is_lent_and_leaves_no_arrears() -> None:
    chosen = QuotaSettings(images_share_percent=60.0)
    key = known_key()
    programs = {name: Program("fast", chosen) for name in ("images", "data")}
    alone = simulate(key, {"images": programs["images"]}, 20.0, lambda: 0.001)
    assert len(alone["images"]) >= 0.97 * 20 * 90
    key.paid_mono, key.granted_mono = NOW.mono, NOW.mono  # the next simulation begins there
    together = simulate(key, programs, 5.0, lambda: 0.001)
    first = sorted(
        [(at, "i") for at in together["images"]] + [(at, "d") for at in together["data"]]
    )
    assert sum(name == "d" for _, name in first[:100]) <= 52  # 40 and a few missed turns


def test_a_program_that_died_in_line_costs_nothing() -> None:
    programs = {name: Program("fast", QuotaSettings()) for name in ("images", "data")}
    programs["images"].wants["99.1"] = NOW.mono
    key = known_key(programs=programs)
    granted = simulate(key, {"data": programs["data"]}, 5.0, lambda: 0.001)
    assert len(granted["data"]) >= 0.97 * 5 * 90


@pytest.mark.parametrize(
    ("limit", "rate"), [(1, 0.5), (5, 4.5), (10, 10 / 1.1), (100, 90.0), (150, 90.0), (0.4, 0.2)]
)
def test_fast_is_the_lesser_of_90_and_the_limit_less_a_margin(limit, rate) -> None:
    assert key_rate(known_key(limit), QuotaSettings(), NOW) == pytest.approx(rate)


def test_unknown_limits_allow_five_a_second() -> None:
    assert key_rate(Key(), QuotaSettings(), NOW) == 5.0
    later = Instant(NOW.mono + 90_000, NOW.wall + 90_000)
    assert key_rate(known_key(), QuotaSettings(), later) == 5.0


def test_slow_mode_paces_and_spreads() -> None:
    program = Program("slow", QuotaSettings(slow_per_second=1.0, spread_s=3600.0))
    key = known_key(limit_per_day=5000)
    for remaining, rate in ((None, 1.0), (5000, 1.0), (1850, 0.5), (51, 5000 / 86_400), (50, 0.0)):
        key.remaining = remaining
        assert program_rate(key, program, Facts(), NOW) == pytest.approx(rate)


def test_slow_beside_fast_takes_only_its_own_pace() -> None:
    programs = {"images": Program("slow", QuotaSettings()), "data": Program("fast", UNBOUND)}
    granted = simulate(known_key(10), programs, 30.0, lambda: 0.001)
    assert 29 <= len(granted["images"]) <= 31
    assert len(granted["data"]) + len(granted["images"]) >= 0.97 * 30 * 10 / 1.1


@pytest.mark.parametrize(("percent", "kept"), [(1.0, 50), (0.0, 0), (0.001, 1), (100.0, 5000)])
def test_reserve_is_rounded_up(percent, kept) -> None:
    key = known_key(limit_per_day=5000)
    assert reserve(key, QuotaSettings(reserve_percent=percent)) == kept


def test_calls_in_flight_are_taken_off() -> None:
    key = known_key(limit_per_day=5000, remaining=55)
    caller = Caller("images", Program("fast", QuotaSettings()))
    assert isinstance(decide(key, caller, Facts(in_flight=4), NOW), Go)
    assert isinstance(decide(key, caller, Facts(in_flight=5), NOW), Pause)


def test_a_pace_of_another_boot_is_ignored() -> None:
    caller = Caller("images", Program("slow", QuotaSettings(), paid_mono=9e9))
    key = known_key(paid_mono=9e9, granted_mono=9e9)
    key.programs["data"] = Program("fast", QuotaSettings(), wants={"7.1": 9e9})
    assert isinstance(decide(key, caller, Facts(), NOW), Go)
    book_grant(key, caller, Facts(), NOW)
    assert key.paid_mono <= NOW.mono
    assert caller.program.paid_mono <= NOW.mono


def test_a_lowered_rate_recovers_over_minutes() -> None:
    key = known_key(factor=0.2, lowered=NOW)
    rates = [factor(key, Instant(NOW.mono + 60.0 * n, NOW.wall)) for n in range(10)]
    assert rates == pytest.approx([0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0])


@given(jump=st.floats(-1e6, 1e6), passed=st.floats(0, 1e5))
def test_a_wall_clock_jump_never_prolongs_a_wait(jump, passed) -> None:
    later = Instant(NOW.mono + passed, NOW.wall + passed + jump)
    assert elapsed_s(NOW, later) >= passed - 1e-3


def test_a_wait_does_not_outlive_another_boot_with_a_clock_set_back() -> None:
    hold = Hold(NOW, 86_400.0, "spent")
    assert hold.rest_s(Instant(10.0, NOW.wall - 3600)) < 0
    assert hold.rest_s(Instant(10.0, NOW.wall + 3600)) == pytest.approx(82_800)


def test_the_words_of_the_dead_do_not_pile_up() -> None:
    wants = {"1.1": NOW.mono - 1, "2.1": NOW.mono - 60, "3.1": NOW.mono + 900}
    key = Key(programs={"data": Program(wants=wants)})
    forget_wants(key, NOW)
    assert list(key.programs["data"].wants) == ["1.1"]


@settings(max_examples=60, deadline=None)
@given(
    limit=st.sampled_from([5, 10, 100, 150]),
    seed=st.integers(0, 2**32),
    stall_s=st.sampled_from([0.0, 0.02, 0.2]),
    both=st.booleans(),
)
def test_no_second_of_the_server_is_full_though_calls_arrive_unevenly(limit, seed, stall_s, both):
    """Calls arrive up to 60 ms late, programs stall, slots are leased: still no 429."""
    dice = random.Random(seed)
    names = ("images", "data") if both else ("images",)
    key = known_key(limit, limit_per_day=10**6, remaining=10**6)
    programs = {name: Program("fast", UNBOUND) for name in names}
    key.programs |= programs
    arrived, polls = [], [(NOW.mono, name) for name in names]
    while polls[0][0] < NOW.mono + 8.0:
        at, name = heapq.heappop(polls)
        moment = Instant(at, NOW.wall + at - NOW.mono)
        caller = Caller(name, programs[name])
        verdict = decide(key, caller, Facts(), moment)
        wait_s = verdict.seconds if isinstance(verdict, Pause) else 0.0
        if isinstance(verdict, Go):
            for slot in book_slots(key, caller, Facts(), moment, waiting=40):
                at = max(at, slot.at_mono)
                at += stall_s * dice.random() if dice.random() < 0.1 else 0.0005
                if not slot.is_late(at):
                    arrived.append(at + JITTER_S * dice.random())
        elif verdict.in_line:
            programs[name].wants["1.1"] = at
        heapq.heappush(polls, (at + wait_s, name))
    assert most_in_a_second(sorted(arrived)) <= limit
    assert stall_s > 0.1 or len(arrived) >= 0.9 * 8 * key_rate(key, UNBOUND, NOW) - 1
