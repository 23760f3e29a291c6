"""Slots that one transaction books ahead, so that at a high rate a call costs a part of one.

Leased slots are as far apart as single ones, and a process leases no more than its callers take.
A slot that was not taken in time is given back: a caller that is late must not make a burst. A
process that dies loses its slots, which count as spent until the next answer.
"""

from typing import NamedTuple

from furnisync.quota.rules import (
    LATE_S,
    Caller,
    book_grant,
    book_next,
    is_blind,
    key_rate,
    remaining_now,
    reserve,
)
from furnisync.quota.state import Facts, Instant, Key

__all__ = ["Slot", "book_slots", "is_calm"]

LEASE_S = 0.1
"""A lease reaches no further ahead than this."""
CALM_CALLS = 500
"""So many calls more than the reserve must be left of the day."""


class Slot(NamedTuple):
    """The right to make one call at a time.

    Attributes:
        number: of the call.
        at_mono: when it may go out, monotonic seconds.
    """

    number: int
    at_mono: float

    def is_late(self, mono: float) -> bool:
        """Whether it is too late to use the slot."""
        return mono - self.at_mono > LATE_S


def is_calm(key: Key, caller: Caller, facts: Facts, now: Instant) -> bool:
    """Whether the next calls need no decision of their own, and their answers no hurry."""
    left = remaining_now(key, facts, now)
    return (
        caller.program.mode == "fast"
        and not (key.trial or is_blind(key, now))
        and key.hold is None
        and key.alone is None
        and key.spent is None
        and left is not None
        and left - reserve(key, caller.program.settings) > CALM_CALLS
    )


def book_slots(key: Key, caller: Caller, facts: Facts, now: Instant, waiting: int) -> list[Slot]:
    """Book the call that may go out now and, in calm times, those of other waiting callers."""
    size = 1
    if is_calm(key, caller, facts, now):
        size = max(1, min(waiting, int(key_rate(key, caller.program.settings, now) * LEASE_S)))
    slots = [Slot(book_grant(key, caller, facts, now), now.mono)]
    while len(slots) < size:
        slots.append(Slot(*book_next(key, caller, now)))
    return slots
