"""When may a call go out? Pure rules over a `Key`: rates, gates, shares.

Every call passes five gates, in this order; the first closed one says how long and why.

1. hold     Etsy said wait (429, retry-after), or something else uses the key now
2. alone    all wait for the answer of one call
3. day      the day's calls are spent except the reserve; sometimes one call checks again
4. slow     this program's own pace in slow mode
5. slot     the key's pace, shared by all programs by weight

Pace: `paid_mono` is the instant up to which calls are paid for. A call is due one interval later
and pays up to then. If it is late, up to `CREDIT_S` of the delay may be caught up and the
rest is lost, so that a program that slept never sends a burst. A leased call (`lease.py`) is paid
ahead and leaves at most `LATE_S` late. So in any second at most (1 + LATE_S + JITTER_S) * rate
calls arrive, rounded up, and the margin of `key_rate` keeps that within the limit.
"""

import logging
import math

import msgspec

from furnisync.clock import DAY_S
from furnisync.config import QuotaSettings
from furnisync.quota.state import (
    BUCKET_S,
    Facts,
    Instant,
    Key,
    Notice,
    Program,
    elapsed_s,
    find_program,
    local_time,
)

CREDIT_S = 0.020
"""How much delay is caught up: more than the usual stall of an event loop."""
LATE_S = 0.040
"""How late a leased call may leave."""
JITTER_S = 0.060
"""By how much calls that leave evenly may arrive unevenly."""
AHEAD_MOST_S = 1.0
"""How far ahead of now calls may be paid for; further is from another boot."""
GRACE_S = 0.008
"""How long a slot is kept for the program whose turn it is; free, since below `CREDIT_S`."""
ARREARS_CALLS = 10
"""Missed turns that a program still gets: for brief stalls, not for idle time."""
WANT_FADES_S = 2.5
"""A process that was silent for this long wants nothing (any more)."""
UNKNOWN_PER_SECOND = 5.0
"""Etsy's smallest limit: the maximum until an answer names one."""
ALONE_S = 10.0
LOOK_FIRST_S = 60.0
LOOK_LAST_S = 3600.0
RECOVERY_STEP = 0.1
RECOVERY_STEP_S = 60.0
ANSWER_POLL_S = 0.1


class Caller(msgspec.Struct, frozen=True):
    """The program that requests a call: its name and its entry."""

    name: str
    program: Program


class Go(msgspec.Struct, frozen=True):
    """The call may go out now."""


class Pause(msgspec.Struct, frozen=True):
    """The call may not go out yet; ask again after `seconds`.

    `in_line` is true if only a slot of the key is missing.
    """

    seconds: float
    why: str
    in_line: bool = False


def is_blind(key: Key, now: Instant) -> bool:
    """No answer named a limit yet, or too long ago to say anything about today."""
    return key.heard is None or elapsed_s(key.heard, now) > DAY_S


def factor(key: Key, now: Instant) -> float:
    """Part of the target rate that may be used, 0.2 to 1: lowered by 429, raised by time."""
    if key.lowered is None:
        return 1.0
    steps = elapsed_s(key.lowered, now) // RECOVERY_STEP_S
    return min(1.0, key.factor + RECOVERY_STEP * steps)


def key_rate(key: Key, settings: QuotaSettings, now: Instant) -> float:
    """Calls a second of all programs together.

    It stays as far below the limit as calls that leave evenly may arrive unevenly.
    """
    limit = None if is_blind(key, now) else key.limit_per_second
    if limit is None:
        allowed = UNKNOWN_PER_SECOND
    else:
        allowed = max(min(limit / (1 + LATE_S + JITTER_S), limit - 0.5), limit / 2)
    return min(settings.fast_per_second, allowed) * factor(key, now)


def remaining_now(key: Key, facts: Facts, now: Instant) -> int | None:
    """Calls left today, less those in flight; None if unknown."""
    if key.remaining is None or is_blind(key, now):
        return None
    return max(0, key.remaining - facts.in_flight)


def reserve(key: Key, settings: QuotaSettings) -> int:
    """Calls of the day that are reserved for the user's own use of the key."""
    if key.limit_per_day is None:
        return 0
    return math.ceil(key.limit_per_day * settings.reserve_percent / 100)


def program_rate(key: Key, program: Program, facts: Facts, now: Instant) -> float:
    """Calls a second that a program may make when it is alone; 0 if the day is spent.

    Slow mode spreads its calls, because a burst becomes free as a burst a day later. It is never
    slower than would use the whole day.
    """
    settings = program.settings
    rate = key_rate(key, settings, now)
    left = remaining_now(key, facts, now)
    spare = None if left is None else max(0, left - reserve(key, settings))
    if spare == 0:
        return 0.0
    if program.mode == "slow":
        rate = min(rate, settings.slow_per_second)
        if spare is not None:
            even = (key.limit_per_day or 0) / DAY_S
            rate = min(rate, max(spare / settings.spread_s, even))
    return rate


def decide(key: Key, caller: Caller, facts: Facts, now: Instant) -> Go | Pause:
    """May this program make one call now?"""
    return (
        _hold_gate(key, now)
        or _alone_gate(key, now)
        or _day_gate(key, caller.program, facts, now)
        or _slow_gate(key, caller.program, facts, now)
        or _slot_gate(key, caller, now)
        or Go()
    )


def _hold_gate(key: Key, now: Instant) -> Pause | None:
    if key.hold is None or (rest_s := key.hold.rest_s(now)) <= 0:
        return None
    return Pause(rest_s, key.hold.why)


def _alone_gate(key: Key, now: Instant) -> Pause | None:
    if key.alone is None or (out_s := elapsed_s(key.alone, now)) >= ALONE_S:
        return None
    return Pause(min(ANSWER_POLL_S, ALONE_S - out_s), "one call is out to learn the limits")


def _day_gate(key: Key, program: Program, facts: Facts, now: Instant) -> Pause | None:
    left, kept = remaining_now(key, facts, now), reserve(key, program.settings)
    if left is None or left > kept:
        return None
    if key.remaining is not None and key.remaining > kept:
        return Pause(ANSWER_POLL_S, "the last calls of the day are being answered")
    if left == 0 and key.remaining:
        return Pause(ANSWER_POLL_S, "the last call of the reserve is being answered")
    rest_s = look_in_s(key, facts, now)
    return Pause(rest_s, "the day's calls are spent") if rest_s > 0 else None


def look_in_s(key: Key, facts: Facts, now: Instant) -> float:
    """Seconds until one call may check whether a spent day has calls again; 0: now."""
    if key.looked is None or (key.trial and key.hold and key.hold.length_s >= LOOK_FIRST_S):
        return 0.0  # a retry-after has just passed
    waited_s = elapsed_s(key.looked, now)
    # While some calls are left a check is never refused, so it may come early. After that it may
    # cost a call, so it waits until our own oldest calls leave the window, or an hour.
    pause_s = min(LOOK_FIRST_S * 2.0 ** min(key.looks, 10), LOOK_LAST_S)
    if not key.remaining:
        pause_s = LOOK_LAST_S
    frees = own_calls_free_at(facts)
    if frees is not None:
        pause_s = min(pause_s, max(waited_s + frees - now.wall, LOOK_FIRST_S))
    return max(0.0, pause_s - waited_s)


def own_calls_free_at(facts: Facts) -> float | None:
    """Unix time at which our own oldest calls leave the window; None if there are none."""
    if facts.oldest_bucket is None:
        return None
    return (facts.oldest_bucket + 1) * BUCKET_S + DAY_S


def _slow_gate(key: Key, program: Program, facts: Facts, now: Instant) -> Pause | None:
    if program.mode != "slow" or key.spent is not None:
        return None  # fast mode, or a check, which has its own pace
    due = _due(program.paid_mono, program_rate(key, program, facts, now), now)
    return Pause(due - now.mono, "slow mode") if due > now.mono else None


def _slot_gate(key: Key, caller: Caller, now: Instant) -> Pause | None:
    due = _due(key.paid_mono, key_rate(key, caller.program.settings, now), now)
    if not is_turn_of(key, caller, now):
        # The slot belongs to the other program. If that does not take it at once, this one does,
        # so that no call is lost; the other's turn stays.
        interval_s = 1 / key_rate(key, caller.program.settings, now)
        granted = min(key.granted_mono, now.mono)
        due = max(due, granted) + min(GRACE_S, interval_s / 2)
    return Pause(due - now.mono, "the rate allowed", in_line=True) if due > now.mono else None


def _due(paid_mono: float, rate: float, now: Instant) -> float:
    """When the next call is due. An instant far in the future is from another boot: due at once."""
    return now.mono if paid_mono > now.mono + AHEAD_MOST_S else paid_mono + 1 / rate


def is_turn_of(key: Key, caller: Caller, now: Instant) -> bool:
    """Whether no other program that wants a call is before this one."""
    mine = (_start(key, caller.name, caller.program.settings), caller.name != "images")
    return all(
        mine <= (_start(key, name, caller.program.settings), name != "images")
        for name, other in key.programs.items()
        if name != caller.name and wants_call(other, now)
    )


def wants_call(program: Program, now: Instant) -> bool:
    """Whether one of its processes waits for a slot and said so recently."""
    return any(0 <= now.mono - mono < WANT_FADES_S for mono in program.wants.values())


def forget_wants(key: Key, now: Instant) -> None:
    """Remove processes that stopped waiting without saying so."""
    for program in key.programs.values():
        fresh = {who: at for who, at in program.wants.items() if 0 <= now.mono - at < WANT_FADES_S}
        program.wants = fresh


def _weight(name: str, settings: QuotaSettings) -> float:
    share = min(max(settings.images_share_percent, 1.0), 99.0)
    return share if name == "images" else 100.0 - share


def _start(key: Key, name: str, settings: QuotaSettings) -> float:
    """Virtual time of a program's next call: a program does not save up turns while it is idle."""
    program = find_program(key.programs, name)
    return max(program.virtual, key.virtual - ARREARS_CALLS / _weight(name, settings))


def book_grant(key: Key, caller: Caller, facts: Facts, now: Instant) -> int:
    """Record that a call goes out now; returns its number."""
    program = caller.program
    rate = key_rate(key, program.settings, now)
    slow_rate = program_rate(key, program, facts, now) or program.settings.slow_per_second
    key.grants += 1
    key.paid_mono = max(_due(key.paid_mono, rate, now), now.mono - CREDIT_S)
    key.granted_mono = now.mono
    if key.hold is not None and key.hold.rest_s(now) <= 0:
        key.hold = None  # done: a check that finds nothing waits by the rules
    program.paid_mono = max(_due(program.paid_mono, slow_rate, now), now.mono - CREDIT_S)
    start = _start(key, caller.name, program.settings)
    program.virtual = start + 1 / _weight(caller.name, program.settings)
    key.virtual = max(key.virtual, start)
    if key.spent is not None:
        key.looks, key.looked = key.looks + 1, now
    first = is_blind(key, now) and (key.opened is None or elapsed_s(key.opened, now) > DAY_S)
    if first:
        key.opened = now
    if first or key.trial:
        key.alone, key.alone_number = now, key.grants
    return key.grants


def book_next(key: Key, caller: Caller, now: Instant) -> tuple[int, float]:
    """Book a call ahead, one interval after the last one; returns its number and its time."""
    key.grants += 1
    key.paid_mono += 1 / key_rate(key, caller.program.settings, now)
    key.granted_mono = key.paid_mono
    caller.program.virtual += 1 / _weight(caller.name, caller.program.settings)
    key.virtual = max(key.virtual, caller.program.virtual)
    return key.grants, key.paid_mono


def note_spent(key: Key, settings: QuotaSettings, facts: Facts, now: Instant) -> Notice | None:
    """Begin or end the state of a spent day by the last headers; returns what to report."""
    left = None if is_blind(key, now) else key.remaining
    spent = left is not None and left <= reserve(key, settings)
    if spent == (key.spent is not None):
        return None
    key.looks = 0
    key.spent = key.looked = now if spent else None
    if spent:
        return Notice("spent", spent_message(key, facts, now), None)
    if left is None:
        return None
    return Notice("freed", f"there are calls again ({_counted(key)})", logging.INFO)


def spent_message(key: Key, facts: Facts, now: Instant) -> str:
    """The message about a spent day."""
    until = local_time(spent_until(key, facts, now))
    return f"the day's calls are spent ({_counted(key)}); waiting until {until}"


def spent_until(key: Key, facts: Facts, now: Instant) -> float:
    """Unix time when calls should be free again: by a header, our own use, or the next check."""
    if key.hold is not None and key.hold.rest_s(now) > 0:
        return now.wall + key.hold.rest_s(now)
    frees = own_calls_free_at(facts)
    if frees is not None and frees > now.wall:
        return frees
    return now.wall + look_in_s(key, facts, now)


def _counted(key: Key) -> str:
    limit = "an unknown number" if key.limit_per_day is None else f"{key.limit_per_day:,}"
    return f"{key.remaining or 0:,} of {limit} left"
