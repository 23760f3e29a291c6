"""What the quota ledger remembers of one API key, and how it tells time.

A `Key` is one value, read and written whole inside one transaction, so that every process that
shares the ledger sees all of a change or none of it. The rules that move it are pure functions
in `pacing.py` and `quota_answers.py`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from furnisync.config import Mode, QuotaSettings
from furnisync.quota.clock_check import ClockState

BUCKET_S = 300
"""Usage is kept in buckets of 5 minutes, by program and purpose."""


class Instant(msgspec.Struct, frozen=True, array_like=True):
    """One instant on both clocks, in seconds."""

    mono: float
    wall: float


def elapsed_s(since: Instant, now: Instant) -> float:
    """Seconds from one moment to another, whatever happened to the clocks between them.

    Wall time may be set back, monotonic time begins anew with each boot and stands still while
    the computer sleeps: so the larger of both is nearer to the truth. Where both ran backwards
    (another boot, and the clock was set back) nobody knows: infinitely long, since a wait that
    ends too early costs one call and a wait that never ends costs everything.
    """
    longest = max(now.mono - since.mono, now.wall - since.wall)
    return longest if longest >= 0 else float("inf")


class Hold(msgspec.Struct, frozen=True):
    """Nobody calls until `length_s` seconds after `since` have passed."""

    since: Instant
    length_s: float
    why: str

    def rest_s(self, now: Instant) -> float:
        """Seconds that it still lasts; zero or negative once it is over."""
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
    """Its processes that wait for a slot: owner to the monotonic time of their last word."""


class Key(msgspec.Struct):
    """Everything about one key but its usage and its calls in flight."""

    grants: int = 0
    """Calls granted so far: each call's number. Numbers tell which answers are newer."""
    paid_mono: float = 0.0
    """The instant up to which calls are paid for; never ahead of now within one boot."""
    granted_mono: float = 0.0
    virtual: float = 0.0
    """Stride scheduling: the virtual time of the last grant."""
    programs: dict[str, Program] = {}

    heard: Instant | None = None
    """When an answer last told a limit."""
    limit_per_second: float | None = None
    limit_per_second_mark: int = 0
    limit_per_day: int | None = None
    limit_per_day_mark: int = 0
    remaining: int | None = None
    """Calls left today as last told, less the calls that ended without telling."""
    remaining_mark: int = 0
    """Number of the last call granted when `remaining` was told: only the answer of a later call
    can tell that it has really risen. The other marks say the same of their fields."""
    remaining_this_second: float | None = None

    opened: Instant | None = None
    """When the first call into the unknown was granted."""
    alone: Instant | None = None
    """A call is out whose answer everybody waits for ..."""
    alone_number: int = 0
    """... and its number."""
    hold: Hold | None = None
    trial: bool = False
    """A 429 came and nothing better since: the next call goes alone."""
    strikes: int = 0
    """429 in a row, one counted for all calls that were out together."""
    strike_mark: int = 0
    factor: float = 1.0
    """Part of the target rate that is used since `lowered`; it recovers."""
    lowered: Instant | None = None

    spent: Instant | None = None
    """Since when the day's calls are spent."""
    looked: Instant | None = None
    """When one call last looked whether there are calls again, or since when there are none."""
    looks: int = 0
    trimmed: Instant | None = None

    clock: ClockState | None = None
    """How our clock differs from Etsy's as last seen; None where it agrees."""


class Notice(msgspec.Struct, frozen=True):
    """Something to tell: a row of `events` and, with a level, a line in the log."""

    kind: str
    message: str
    level: int | None


class Facts(msgspec.Struct, frozen=True):
    """What a decision needs beside the `Key`."""

    in_flight: int = 0
    """Calls granted that have not been answered."""
    oldest_bucket: int | None = None
    """The first bucket of the last 24 h with calls of ours; looked up when few calls are left."""


def local_time(wall: float) -> str:
    """Unix time as a person reads it where the computer stands."""
    return datetime.fromtimestamp(wall, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def find_program(programs: Mapping[str, Program], name: str) -> Program:
    """A program's entry; one that is not known yet has the defaults."""
    return programs.get(name) or Program()
