"""What headers say, whatever they look like and in whatever order they come."""

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furnisync.quota.headers import RETRY_AFTER_MOST_S, SentCall, absorb
from furnisync.quota.ledger import QuotaHeaders, read_headers
from furnisync.quota.state import Instant, Key

NOW = Instant(100.0, 1_795_000_000.0)


def told(remaining: int | None = None, status: int = 200, **more) -> QuotaHeaders:
    return QuotaHeaders(status, remaining_today=remaining, **more)


def test_headers_are_read_in_any_case() -> None:
    headers = {
        "X-Limit-Per-Second": "150",
        "x-remaining-this-second": "149",
        "X-LIMIT-PER-DAY": " 100000 ",
        "x-remaining-today": "0",
        "Retry-After": "86400",
    }
    assert read_headers(200, headers, 0.0) == QuotaHeaders(200, 150.0, 149.0, 100_000, 0, 86_400.0)


@pytest.mark.parametrize("value", ["", "-1", "abc", "1e3", "nan", "inf", "5, 5", "٣", "1.2.3", "²"])
def test_garbage_is_unknown(value: str) -> None:
    names = ("limit-per-second", "remaining-this-second", "limit-per-day", "remaining-today")
    headers = {f"x-{name}": value for name in names} | {"retry-after": value}
    assert read_headers(429, headers, 0.0) == QuotaHeaders(429)


def test_absent_is_unknown_and_never_zero() -> None:
    assert read_headers(429, {}, 0.0) == QuotaHeaders(429)


def test_a_limit_of_zero_is_no_limit() -> None:
    answer = read_headers(200, {"x-limit-per-second": "0", "x-limit-per-day": "0"}, 0.0)
    assert answer == QuotaHeaders(200)


def test_retry_after_as_a_date_and_absurd() -> None:
    now = NOW.wall
    assert read_headers(429, {"retry-after": formatdate(now + 90)}, now).retry_after_s == 90
    assert read_headers(429, {"retry-after": formatdate(now - 90)}, now).retry_after_s == 0
    for absurd in ("9" * 500, "999999", formatdate(now + 10 * 86_400)):
        assert read_headers(429, {"retry-after": absurd}, now).retry_after_s == RETRY_AFTER_MOST_S


@given(st.dictionaries(st.text(max_size=12), st.text(max_size=40), max_size=4), st.text())
def test_no_header_breaks_it(headers, value) -> None:
    names = ("x-limit-per-second", "x-remaining-today", "retry-after")
    answer = read_headers(200, headers | dict.fromkeys(names, value), NOW.wall)
    for number in (answer.limit_per_second, answer.remaining_today, answer.retry_after_s):
        assert number is None or 0 <= number < 1e12


def test_a_late_higher_count_does_not_replace_a_lower_one() -> None:
    key = Key(grants=3)
    absorb(key, told(97), SentCall(3), NOW)
    absorb(key, told(99), SentCall(1), NOW)
    absorb(key, told(98), SentCall(2), NOW)
    assert key.remaining == 97


def test_a_late_lower_count_counts() -> None:
    key = Key(grants=2)
    absorb(key, told(98), SentCall(2), NOW)
    absorb(key, told(97), SentCall(1), NOW)
    assert key.remaining == 97


def test_a_rise_comes_through_with_the_first_call_sent_after_the_last_fall() -> None:
    key = Key(grants=2)
    absorb(key, told(10), SentCall(1), NOW)
    absorb(key, told(500), SentCall(2), NOW)  # went out before 10 was known
    assert key.remaining == 10
    key.grants = 3
    absorb(key, told(499), SentCall(3), NOW)
    assert key.remaining == 499


def test_calls_that_end_without_telling_count() -> None:
    key = Key(grants=4)
    absorb(key, told(10), SentCall(1), NOW)
    absorb(key, None, SentCall(2), NOW)
    absorb(key, QuotaHeaders(500), SentCall(3), NOW)
    assert key.remaining == 8
    key.remaining = 0
    absorb(key, None, SentCall(4), NOW)
    assert key.remaining == 0


@given(st.permutations(range(1, 30)), st.integers(0, 1000))
def test_in_any_order_the_lowest_of_one_moment_stays(order, base) -> None:
    """Answers of calls that were out together, the server counting in the order of sending."""
    key = Key(grants=29)
    for number in order:
        absorb(key, told(base + 30 - number), SentCall(number), NOW)
    assert key.remaining == base + 1


def test_a_limit_that_fell_is_told_once() -> None:
    key = Key(grants=10)
    assert absorb(key, told(limit_per_day=100_000), SentCall(1), NOW) == []
    key.grants = 20
    notices = absorb(key, told(limit_per_day=5_000), SentCall(11), NOW)
    assert [notice.kind for notice in notices] == ["limit-fell"]
    assert "100,000" in notices[0].message
    assert "5,000" in notices[0].message
    for number, limit in ((12, 5_000), (13, 100_000), (20, 5_000)):  # 13 was sent before the fall
        assert absorb(key, told(limit_per_day=limit), SentCall(number), NOW) == []
    key.grants = 21
    notices = absorb(key, told(limit_per_day=10_000), SentCall(21), NOW)
    assert [notice.kind for notice in notices] == ["limit-rose"]


def test_many_429_that_were_out_together_lower_the_rate_once() -> None:
    key = Key(grants=40, limit_per_second=100.0)
    for number in range(1, 41):
        absorb(key, told(900, 429, retry_after_s=1.0), SentCall(number), NOW)
    assert key.factor == pytest.approx(0.9)
    assert key.strikes == 1
    key.grants = 41
    absorb(key, told(899, 429, retry_after_s=1.0), SentCall(41), NOW)
    assert key.factor == pytest.approx(0.81)


def test_the_rate_never_falls_below_a_fifth_and_recovers() -> None:
    key = Key()
    for _ in range(50):
        key.grants += 1
        absorb(key, told(900, 429, retry_after_s=1.0), SentCall(key.grants), NOW)
    assert key.factor == pytest.approx(0.2)


def test_429_without_a_word_backs_off_growing_up_to_a_minute() -> None:
    key, waits = Key(), []
    for _ in range(9):
        key.grants += 1
        key.hold = None
        absorb(key, QuotaHeaders(429), SentCall(key.grants), NOW)
        waits.append(key.hold.length_s)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    absorb(
        key, QuotaHeaders(200), SentCall(key.grants), NOW
    )  # went out before the last 429 was known
    assert key.strikes == 9
    key.grants += 1
    absorb(key, QuotaHeaders(200), SentCall(key.grants), NOW)
    assert key.strikes == 0


def test_the_longer_of_two_waits_holds() -> None:
    key = Key(grants=2)
    absorb(key, told(status=429, retry_after_s=3600.0), SentCall(1), NOW)
    absorb(key, told(status=429, retry_after_s=1.0), SentCall(2), NOW)
    assert key.hold.rest_s(NOW) == 3600


@pytest.mark.parametrize(("own", "held"), [(0, True), (40, True), (80, False), (None, False)])
def test_a_full_second_holds_back_only_where_we_cannot_have_filled_it(own, held) -> None:
    key = Key(grants=1)
    absorb(key, told(5, limit_per_second=100.0, remaining_this_second=0.0), SentCall(1, own), NOW)
    assert (key.hold is not None) == held
