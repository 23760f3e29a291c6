"""What the quota ledger stores for one API key, and how it measures time.

A `Key` is one value, read and written completely in one transaction, so that every process that
shares the ledger sees all of a change or none of it. The rules that change it are pure functions
in `quota/rules.py` and `quota/headers.py`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from furnisync.circuit_breaker import Outage
from furnisync.config import Mode, QuotaSettings
from furnisync.quota.clock_check import ClockState

BUCKET_S = 300
"""Usage is kept in buckets of 5 minutes, by program and purpose."""


class Instant(msgspec.Struct, frozen=True, array_like=True):
    """One instant on both clocks, in seconds."""

    mono: float
    wall: float


def elapsed_s(since: Instant, now: Instant) -> float:
    """Seconds between two instants, even if the clocks were changed in between.

    Wall time may be set back. Monotonic time restarts with each boot and stops while
    the computer sleeps. So the larger of both is closer to the truth. If both ran backwards
    (another boot, and the clock was set back), the time is unknown: infinite, because a wait that
    ends too early costs one call and a wait that never ends costs everything.
    """
    longest = max(now.mono - since.mono, now.wall - since.wall)
    return longest if longest >= 0 else float("inf")


class Hold(msgspec.Struct, frozen=True):
    """No calls until `length_s` seconds after `since`."""

    since: Instant
    length_s: float
    why: str

    def rest_s(self, now: Instant) -> float:
        """Seconds that are left; zero or negative once it is over."""
        return self.length_s - elapsed_s(self.since, now)


class Program(msgspec.Struct):
    """One of the programs that share a key ("images", "data")."""

    mode: Mode = "slow"
    settings: QuotaSettings = QuotaSettings()
    paid_mono: float = 0.0
    """Slow mode: the instant up to which its calls are paid for."""
    virtual: float = 0.0
    """Stride scheduling: calls so far divided by the weight."""
    wants: dict[str, float] = {}
    """Its processes that wait for a slot: owner to the monotonic time when they last said so."""
    outages: tuple[Outage, ...] = ()
    """What is broken for its last process; nothing once that has ended."""


class Key(msgspec.Struct):
    """Everything about one key except its usage and its calls in flight."""

    grants: int = 0
    """Calls granted so far: the number of the last one. Numbers show which answers are newer."""
    paid_mono: float = 0.0
    """The instant up to which calls are paid for; never ahead of now within one boot."""
    granted_mono: float = 0.0
    virtual: float = 0.0
    """Stride scheduling: the virtual time of the last grant."""
    programs: dict[str, Program] = {}

    heard: Instant | None = None
    """When an answer last named a limit."""
    limit_per_second: float | None = None
    limit_per_second_mark: int = 0
    limit_per_day: int | None = None
    limit_per_day_mark: int = 0
    remaining: int | None = None
    """Calls left today by the last header, less later calls that ended without one."""
    remaining_mark: int = 0
    """Number of the last call granted when `remaining` was learned: only the answer to a later call
    can show that it has really risen. The other marks do the same for their fields."""
    remaining_this_second: float | None = None

    opened: Instant | None = None
    """When the first call without known limits was granted."""
    alone: Instant | None = None
    """Since when all wait for the answer of one call ..."""
    alone_number: int = 0
    """... and its number."""
    hold: Hold | None = None
    trial: bool = False
    """A 429 came and no success since then: the next call goes alone."""
    strikes: int = 0
    """Consecutive 429s; calls that were in flight together count once."""
    strike_mark: int = 0
    factor: float = 1.0
    """Part of the target rate in use since `lowered`; it recovers."""
    lowered: Instant | None = None

    spent: Instant | None = None
    """Since when the day's calls are spent."""
    looked: Instant | None = None
    """When one call last checked whether there are calls again, or since when there are none."""
    looks: int = 0
    trimmed: Instant | None = None

    clock: ClockState | None = None
    """How our clock last differed from Etsy's; None if it agrees."""


class Notice(msgspec.Struct, frozen=True):
    """Something to report: a row of `events` and, with a level, a line in the log."""

    kind: str
    message: str
    level: int | None


class Facts(msgspec.Struct, frozen=True):
    """What a decision needs in addition to the `Key`."""

    in_flight: int = 0
    """Calls granted that have not been answered."""
    oldest_bucket: int | None = None
    """The first bucket of the last 24 h with our calls; looked up when few calls are left."""


def local_time(wall: float) -> str:
    """Unix time as text in the computer's time zone."""
    return datetime.fromtimestamp(wall, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def find_program(programs: Mapping[str, Program], name: str) -> Program:
    """A program's entry; an unknown one has the defaults."""
    return programs.get(name) or Program()
