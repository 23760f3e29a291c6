"""What an answer's headers say about the quota, and how they change the ledger.

The headers are the truth. They arrive in any order, so calls have numbers: an answer that
contradicts the ledger is believed if its call went out after the ledger learned the old value.
"""

import logging
import math
from collections.abc import Mapping

import msgspec

from furnisync.http.headers import read_retry_after
from furnisync.quota.rules import factor
from furnisync.quota.state import Hold, Instant, Key, Notice, local_time

RETRY_AFTER_MOST_S = 26 * 3600.0
"""The day's window is 24 h in buckets of about 2 h: nothing can take longer."""
SECOND_LIMIT_S = 60.0
"""A retry-after up to here concerns the limit per second, a longer one that of the day."""
BACK_OFF_MOST_S = 60.0
FACTOR_LEAST = 0.2
FOREIGN_HOLD_S = 0.5
EXPLAINED = 0.75
"""If our calls are at least this part of a full second, no other user of the key is suspected."""


class QuotaHeaders(msgspec.Struct, frozen=True):
    """The quota headers of one answer; None means absent, so unknown, never 0."""

    status: int
    limit_per_second: float | None = None
    remaining_this_second: float | None = None
    limit_per_day: int | None = None
    remaining_today: int | None = None
    retry_after_s: float | None = None


class SentCall(msgspec.Struct, frozen=True):
    """The call that an answer belongs to."""

    number: int
    """As granted; 0 if unknown, which is older than everything."""
    own_calls: int | None = None
    """Our calls in the second around it; None if it is too long ago to know."""


def read_headers(status: int, headers: Mapping[str, str], now: float) -> QuotaHeaders:
    """Read the quota headers of an answer; an invalid value counts as absent.

    Args:
        status: the HTTP status.
        headers: names in any case.
        now: our unix time in seconds, for a `retry-after` that is a date and no `date` beside it.
    """
    lower = {name.lower(): value.strip() for name, value in headers.items()}
    wait_s = read_retry_after(lower, now)
    day, today = _number(lower.get("x-limit-per-day")), _number(lower.get("x-remaining-today"))
    return QuotaHeaders(
        status=status,
        limit_per_second=_number(lower.get("x-limit-per-second")) or None,
        remaining_this_second=_number(lower.get("x-remaining-this-second")),
        limit_per_day=None if not day else int(day),
        remaining_today=None if today is None else int(today),
        retry_after_s=None if wait_s is None else min(wait_s, RETRY_AFTER_MOST_S),
    )


def _number(text: str | None) -> float | None:
    if text is None or not text.isascii() or not text.replace(".", "", 1).isdigit():
        return None
    value = float(text)
    return value if value < 1e12 else None


def blames_key(answer: QuotaHeaders) -> bool:
    """Whether a 429 is about the key; otherwise its headers show that the key has calls left."""
    if not answer.remaining_today:
        return True  # none are left, or it does not say
    if answer.remaining_this_second:
        return False
    return answer.retry_after_s is None or answer.retry_after_s <= SECOND_LIMIT_S


def absorb(key: Key, answer: QuotaHeaders | None, sent: SentCall, now: Instant) -> list[Notice]:
    """Update the key from an answer (None: none came, but the call counts)."""
    if key.alone_number == sent.number:
        key.alone = None
    if answer is None:
        _count_untold(key)
        return []
    notices = _absorb_limits(key, answer, sent, now)
    _absorb_remaining(key, answer, sent)
    _absorb_second(key, answer, sent, now)
    if answer.status == 429 and blames_key(answer):
        notices += _absorb_refusal(key, answer, sent, now)
    elif sent.number > key.strike_mark:
        key.strikes, key.trial = 0, False
    return notices


def _count_untold(key: Key) -> None:
    if key.remaining is not None:
        key.remaining = max(0, key.remaining - 1)


def _absorb_limits(key: Key, answer: QuotaHeaders, sent: SentCall, now: Instant) -> list[Notice]:
    notices = []
    if answer.limit_per_second is not None:
        key.heard = now
        if sent.number > key.limit_per_second_mark or key.limit_per_second is None:
            old, key.limit_per_second = key.limit_per_second, answer.limit_per_second
            if old != answer.limit_per_second:
                key.limit_per_second_mark = key.grants
                notices += _limit_notice("per second", old, answer.limit_per_second)
    if answer.limit_per_day is not None:
        key.heard = now
        if sent.number > key.limit_per_day_mark or key.limit_per_day is None:
            old_day, key.limit_per_day = key.limit_per_day, answer.limit_per_day
            if old_day != answer.limit_per_day:
                key.limit_per_day_mark = key.grants
                notices += _limit_notice("per day", old_day, answer.limit_per_day)
    return notices


def _limit_notice(which: str, old: float | None, new: float) -> list[Notice]:
    if old is None:
        return []
    if new < old:
        message = f"Etsy lowered the limit {which} from {old:,g} to {new:,g}"
        return [Notice("limit-fell", message, logging.WARNING)]
    message = f"Etsy raised the limit {which} from {old:,g} to {new:,g}"
    return [Notice("limit-rose", message, logging.INFO)]


def _absorb_remaining(key: Key, answer: QuotaHeaders, sent: SentCall) -> None:
    remaining = answer.remaining_today
    if remaining is None:
        _count_untold(key)
    elif key.remaining is None or remaining <= key.remaining or sent.number > key.remaining_mark:
        # A lower number is always news. A higher one is news only if its call went out after the
        # lower one was known, otherwise it is older and arrived late.
        key.remaining, key.remaining_mark = remaining, key.grants


def _absorb_second(key: Key, answer: QuotaHeaders, sent: SentCall, now: Instant) -> None:
    left, limit = answer.remaining_this_second, answer.limit_per_second or key.limit_per_second
    key.remaining_this_second = left
    if left is None or left >= 1 or limit is None or sent.own_calls is None:
        return
    if sent.own_calls < math.floor(EXPLAINED * limit):
        _extend_hold(key, Hold(now, FOREIGN_HOLD_S, "something else uses the key just now"), now)


def _extend_hold(key: Key, hold: Hold, now: Instant) -> None:
    if key.hold is None or hold.rest_s(now) > key.hold.rest_s(now):
        key.hold = hold


def _absorb_refusal(key: Key, answer: QuotaHeaders, sent: SentCall, now: Instant) -> list[Notice]:
    fresh = sent.number > key.strike_mark  # not one of many that were out together
    if fresh:
        key.strikes, key.strike_mark = key.strikes + 1, key.grants
    told_s = answer.retry_after_s
    if told_s and key.remaining:
        # Calls are left, so it cannot be about the day, unless other users have spent them since.
        told_s = min(told_s, SECOND_LIMIT_S * 2.0 ** min(max(key.strikes - 1, 0), 10))
    if not told_s and key.remaining == 0:
        return []  # the day is spent and there is no retry-after: the rules of the day apply
    wait_s = told_s or min(2.0 ** min(key.strikes - 1, 10), BACK_OFF_MOST_S)
    key.trial = True
    about_day = wait_s > SECOND_LIMIT_S or key.remaining == 0
    if fresh and not about_day:
        key.factor, key.lowered = max(FACTOR_LEAST, factor(key, now) * 0.9), now
    until = local_time(now.wall + wait_s)
    _extend_hold(
        key, Hold(now, min(wait_s, RETRY_AFTER_MOST_S), f"Etsy said 429: wait until {until}"), now
    )
    if not fresh or wait_s <= SECOND_LIMIT_S or (key.remaining == 0 and key.spent is None):
        return []  # short, reported already, or about to be reported as a spent day
    message = f"Etsy answered 429 and asks to wait until {until}"
    return [Notice("refused", message, logging.WARNING)]
