"""Pace and back-off, on a clock that is moved by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furnisync.download.rate_limiter import LEAST_SHARE, BackOff, RateLimiter
from furnisync.http.headers import parse_headers, read_retry_after


class Clock:
    def __init__(self):
        self.at = 50.0

    def now(self):
        return self.at

    def monotonic(self):
        return self.at


def taken(pace, share=1.0):
    count = 0
    while count < 10_000 and pace.take(share):
        count += 1
    return count


def test_no_limit():
    pace = RateLimiter(0.0, Clock())
    assert taken(pace) == 10_000
    assert pace.wait_s() == 0.0


def test_a_tenth_of_a_second_at_most_is_caught_up():
    clock = Clock()
    pace = RateLimiter(100.0, clock)
    assert taken(pace) == 1
    clock.at += 60
    assert taken(pace) == 10
    clock.at += pace.wait_s() + 1e-9
    assert taken(pace) == 1


@given(
    per_second=st.floats(0.1, 1000),
    share=st.floats(LEAST_SHARE, 1),
    steps=st.lists(st.floats(0, 0.5), max_size=60),
)
def test_never_more_than_the_rate_and_a_burst(per_second, share, steps):
    clock = Clock()
    pace = RateLimiter(per_second, clock)
    total = 0
    for step in steps:
        clock.at += step
        total += taken(pace, share)
    assert total <= sum(steps) * per_second * share + max(1.0, per_second * 0.1) + 1e-6


def test_wait_is_exact():
    clock = Clock()
    pace = RateLimiter(4.0, clock)
    assert pace.take()
    assert pace.wait_s() == 0.25
    assert pace.wait_s(0.5) == 0.5


def test_own_pauses_grow_to_a_minute():
    clock = Clock()
    back_off = BackOff(clock)
    lengths = []
    for _ in range(9):
        back_off.pause("429", None)
        lengths.append(back_off.paused_s)
        clock.at += back_off.paused_s
        assert not back_off.paused_s
    assert lengths == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_refusals_of_what_was_begun_before_do_not_count_again():
    clock = Clock()
    back_off = BackOff(clock)
    for _ in range(16):
        back_off.pause("503", None)
    assert back_off.paused_s == 1
    assert back_off.share == 0.5
    back_off.pause("503", 5.0)
    assert back_off.paused_s == 5
    back_off.pause("503", 2.0)
    assert back_off.paused_s == 5


def test_pause_is_told_in_wall_time_with_its_reason():
    clock = Clock()
    back_off = BackOff(clock)
    assert back_off.paused_until is None
    back_off.pause("429 from the image server", 10.0)
    assert back_off.paused_until == clock.now() + 10
    assert back_off.reason == "429 from the image server"
    clock.at += 10
    assert back_off.paused_until is back_off.reason is None


def test_speed_comes_back_gently():
    clock = Clock()
    back_off = BackOff(clock)
    for _ in range(10):
        back_off.pause("429", 1.0)
        clock.at += 1
    assert back_off.share == LEAST_SHARE
    shares = []
    for _ in range(200):
        back_off.record_success()
        shares.append(back_off.share)
    assert shares == sorted(shares)
    assert shares[20] < 0.2
    assert shares[-1] == 1.0


def test_good_answers_end_the_growth():
    clock = Clock()
    back_off = BackOff(clock)
    for _ in range(3):
        back_off.pause("503", None)
        clock.at += back_off.paused_s
    for _ in range(25):
        back_off.record_success()
    back_off.pause("503", None)
    assert back_off.paused_s == 1


DATE = b"Date: Sun, 22 Nov 2026 10:00:00 GMT\r\n"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (b"Retry-After: 7", 7),
        (b"retry-after:7", 7),
        (b"RETRY-AFTER:   86400  ", 86400),
        (b"Retry-After: Sun, 22 Nov 2026 10:01:30 GMT", 90),
        (b"Retry-After: Sun, 22 Nov 2026 09:00:00 GMT", 0),
        (b"Retry-After: 0", 0),
        (b"Retry-After: -5", None),
        (b"Retry-After: soon", None),
        (b"Retry-After: \xb2", None),
        (b"Retry-After:", None),
        (b"X-Other: 7", None),
    ],
)
def test_retry_after_in_seconds_and_as_a_date(header, seconds):
    headers = parse_headers([b"HTTP/1.1 503 No\r\n", DATE, header + b"\r\n", b"\r\n"])
    assert read_retry_after(headers, now=0.0) == seconds


@given(st.lists(st.binary(max_size=50), max_size=5), st.binary(max_size=50))
def test_any_headers_raise_nothing(headers, value):
    read_retry_after(parse_headers([*headers, b"retry-after: " + value]), now=0.0)
