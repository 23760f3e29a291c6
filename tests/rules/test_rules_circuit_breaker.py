"""One item or the whole thing: when a breaker opens, waits, probes and closes."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furnisync.circuit_breaker import LONGEST_WAIT_S, SUSPECT_AFTER, CircuitBreaker


class Time:
    """A clock that a test moves."""

    def __init__(self):
        self.at = 1_790_000_000.0

    def now(self):
        return self.at

    def monotonic(self):
        return self.at - 1_700_000_000.0


@pytest.fixture
def clock():
    return Time()


@pytest.fixture
def told():
    return []


@pytest.fixture
def breaker(clock, told):
    return CircuitBreaker("the shop", clock, told.append)


def break_it(breaker, kind="not json"):
    suspect = [breaker.record_failure(item, kind, "a login page") for item in range(SUSPECT_AFTER)]
    assert suspect == [False] * (SUSPECT_AFTER - 1) + [True]
    breaker.open(kind, "a login page")


def test_the_same_failure_of_different_items_makes_it_suspect(breaker, clock, told, caplog):
    break_it(breaker)
    assert not breaker.may_send()
    assert breaker.outage.since == clock.at
    assert clock.at < breaker.outage.next_probe < clock.at + 60
    assert told == [breaker.outage]
    assert caplog.text.count("the shop is broken: a login page") == 1


@given(st.lists(st.sampled_from("ab"), max_size=40))
def test_one_broken_item_never_makes_it_suspect(kinds):
    breaker = CircuitBreaker("x", Time())
    assert not any(breaker.record_failure("the same item", kind, "why") for kind in kinds)


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc"), st.booleans()), max_size=60))
def test_it_is_suspect_only_by_failures_of_different_items_in_a_row(outcomes):
    breaker, failed = CircuitBreaker("x", Time()), {}
    for item, kind, works in outcomes:
        if works:
            breaker.record_success()
            failed.clear()
            continue
        suspect = breaker.record_failure(item, kind, "why")
        failed[item] = kind
        alike = list(failed.values()).count(kind)
        assert suspect == (alike >= SUSPECT_AFTER or len(failed) >= 2 * SUSPECT_AFTER)


def test_a_success_between_failures_shows_that_the_items_are_broken(breaker):
    for item in range(50):
        assert not breaker.record_failure(item, "500", "why")
        if item % (SUSPECT_AFTER - 1) == 0:
            breaker.record_success()
    assert breaker.may_send()


def test_one_probe_at_a_time_and_growing_waits(breaker, clock, told):
    break_it(breaker)
    waits = []
    for _ in range(14):
        waits.append(breaker.wait_s)
        clock.at += breaker.wait_s
        assert breaker.may_send(), "the probe"
        assert not breaker.may_send(), "nothing else while it is out"
        breaker.record_failure("another", "not json", "still a login page")
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_WAIT_S
    assert breaker.lasts_s == pytest.approx(sum(waits))
    assert {one.since for one in told} == {told[0].since}, "one spell"


def test_answers_of_requests_sent_before_do_not_lengthen_the_wait(breaker):
    break_it(breaker)
    wait_s = breaker.wait_s
    for item in range(100):
        breaker.record_failure(item, "not json", "sent before")
    assert breaker.wait_s == wait_s


def test_a_probe_without_an_outcome_is_followed_by_another(breaker, clock):
    break_it(breaker)
    clock.at += breaker.wait_s
    assert breaker.may_send()
    breaker.drop_probe()
    assert breaker.may_send()


def test_it_closes_by_one_success_and_says_so_once(breaker, clock, told, caplog):
    caplog.set_level(logging.WARNING)
    break_it(breaker)
    clock.at += 3600
    assert breaker.may_send()
    breaker.record_success()
    breaker.record_success()
    assert breaker.may_send()
    assert breaker.lasts_s == 0
    assert told[-1] is None
    assert caplog.text.count("works again after 60 minutes") == 1
    assert caplog.text.count("is broken") == 1
