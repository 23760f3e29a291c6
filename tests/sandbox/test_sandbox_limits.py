"""The two rate limits."""

from __future__ import annotations

import time

import pytest
from asking_sandbox import Asker

from furnisync.sandbox.process import SandboxProcess
from furnisync.sandbox.server.limits import Limits

HEADERS = {"x-limit-per-second", "x-remaining-this-second", "x-limit-per-day", "x-remaining-today"}


def test_every_answer_bears_the_headers(bent):
    bent.sandbox.set_limits(qps=50, qpd=5000)
    for path, status in (("openapi-ping", 200), ("shops/1", 404), ("listings/active?limit=0", 400)):
        reply = bent.api(path)
        assert reply.status == status
        assert reply.headers["x-limit-per-second"] == "50"
        assert reply.headers["x-limit-per-day"] == "5000"
        assert reply.headers.keys() >= HEADERS


def test_the_second_slides(bent):
    bent.sandbox.move_clock(100_000)
    bent.sandbox.set_limits(qps=3)
    statuses = [bent.api("openapi-ping") for _ in range(5)]
    assert [reply.status for reply in statuses] == [200, 200, 200, 429, 429]
    assert [reply.headers["x-remaining-this-second"] for reply in statuses[:3]] == ["2", "1", "0"]
    assert {reply.headers["retry-after"] for reply in statuses[3:]} == {"1"}
    lacking = [not HEADERS & reply.headers.keys() for reply in statuses[3:]]
    assert sorted(lacking) == [False, True]
    time.sleep(1.05)
    assert bent.api("openapi-ping").status == 200
    asked = bent.sandbox.asked(log=True)
    assert asked["refused"] == 2
    assert asked["most_in_a_second"] == 5
    assert [entry["status"] for entry in asked["log"]] == ["200"] * 3 + ["429"] * 2 + ["200"]


def test_a_spent_day_frees_its_oldest_bucket(bent):
    bent.sandbox.move_clock(100_000)
    bent.sandbox.set_limits(qpd=4)
    replies = [bent.api("openapi-ping") for _ in range(5)]
    assert [reply.status for reply in replies] == [200] * 4 + [429]
    assert [reply.headers["x-remaining-today"] for reply in replies[:4]] == ["3", "2", "1", "0"]
    wait = int(replies[4].headers["retry-after"])
    assert 79_000 <= wait <= 86_400
    bent.sandbox.move_clock(wait - 100)
    assert bent.api("openapi-ping").status == 429
    bent.sandbox.move_clock(101)
    assert bent.api("openapi-ping").status == 200


def test_a_short_day():
    with SandboxProcess(shops=2, listings=5, qpd=2, day_seconds=1.2, free_429=True) as sandbox:
        asker = Asker(sandbox)
        statuses = [asker.api("openapi-ping").status for _ in range(3)]
        assert statuses == [200, 200, 429]
        time.sleep(1.3)
        assert asker.api("openapi-ping").status == 200


def test_refused_calls_count_against_the_day_unless_told_otherwise():
    for free, left in ((False, 0), (True, 1)):
        limits = Limits(qps=1, qpd=3, day_s=86_400, free_429=free)
        limits.take(0.0)
        assert not limits.take(0.1).allowed
        verdict = limits.take(2.0)
        assert verdict.allowed
        assert int(verdict.headers["x-remaining-today"]) == left


def test_buckets_leave_one_by_one():
    limits = Limits(qps=100, qpd=3, day_s=12.0)
    times = [0.5, 3.5, 5.5]
    assert all(limits.take(at).allowed for at in times)
    assert not limits.take(11.9).allowed
    assert limits.used_today(12.5) == 3  # the first left, the refused call came


@pytest.mark.parametrize("seconds", [7, 3600])
def test_retry_after_can_be_dictated(bent, seconds):
    bent.sandbox.set_limits(qpd=0, retry_after_s=seconds)
    assert bent.api("openapi-ping").headers["retry-after"] == str(seconds)
    bent.sandbox.set_limits(retry_after_s=0)


def test_calls_without_a_key_cost_nothing(bent):
    used = bent.sandbox.asked()["used_today"]
    bent.api("openapi-ping", key="wrong")
    assert bent.sandbox.asked()["used_today"] == used
