"""The quota for people: the state of one key at one time."""

import sqlite3
from pathlib import Path

import msgspec

from furnisync.circuit_breaker import Outage
from furnisync.clock import DAY_S, HOUR_S, WRONG_S, Clock
from furnisync.config import Mode
from furnisync.errors import DatabaseUnusable
from furnisync.quota.clock_check import ClockState
from furnisync.quota.rules import (
    key_rate,
    program_rate,
    remaining_now,
    reserve,
    spent_until,
    wants_call,
)
from furnisync.quota.state import BUCKET_S, Facts, Instant, Key, Program
from furnisync.quota.store import APPLICATION_ID, MIGRATIONS, Damaged, load_facts, load_key
from furnisync.sqlite.database import open_reader

OTHERS_LEAST = 50
OTHERS_PART = 0.15


class Usage(msgspec.Struct, frozen=True):
    """Calls of one program for one purpose."""

    program: str
    purpose: str
    last_hour: int
    last_day: int


class Event(msgspec.Struct, frozen=True):
    """Something that happened: `at` in unix seconds."""

    at: float
    kind: str
    message: str


class ProgramState(msgspec.Struct, frozen=True):
    """One program: how it paces, and the rate that it may use when it is alone."""

    name: str
    mode: Mode
    rate_per_second: float
    is_waiting: bool
    outages: tuple[Outage, ...] = ()


class QuotaState(msgspec.Struct, frozen=True):
    """The quota of one key; None means unknown. Times are unix seconds."""

    limit_per_second: float | None = None
    remaining_this_second: float | None = None
    limit_per_day: int | None = None
    remaining_today: int | None = None
    """From the last header, less the calls in flight."""
    reserve: int = 0
    """Calls of the day that are reserved for the user."""
    told_at: float | None = None
    waiting_until: float | None = None
    waiting_why: str | None = None
    rate_per_second: float = 0.0
    """The rate of all programs together now; 0 while waiting."""
    in_flight: int = 0
    used_last_hour: int = 0
    used_last_day: int = 0
    usage: tuple[Usage, ...] = ()
    programs: tuple[ProgramState, ...] = ()
    events: tuple[Event, ...] = ()
    """Newest first, at most 50."""
    clock: ClockState | None = None
    """How our clock last differed from Etsy's; None if it agrees or nothing is known."""

    @property
    def used_by_others(self) -> int:
        """Calls of the last day that were not ours, by the headers; 0 if it cannot be told.

        Etsy frees calls in steps of two hours, so a small difference says nothing.
        """
        if self.limit_per_day is None or self.remaining_today is None:
            return 0
        spent = self.limit_per_day - self.remaining_today
        others = spent - self.used_last_day
        return others if others > OTHERS_LEAST + OTHERS_PART * spent else 0

    def outages_of(self, program: str) -> tuple[Outage, ...]:
        """What is broken for a program; of interest only while one of its processes runs."""
        return next((one.outages for one in self.programs if one.name == program), ())


def read_quota(connection: sqlite3.Connection, key_id: str, key: Key, now: Instant) -> QuotaState:
    """Read the state from the file."""
    facts = load_facts(connection, key_id, key, now)
    usage = _read_usage(connection, key_id, now)
    until, why = _waiting(key, facts, now)
    programs = tuple(
        ProgramState(
            name,
            one.mode,
            program_rate(key, one, facts, now),
            wants_call(one, now),
            one.outages,
        )
        for name, one in sorted(key.programs.items())
    )
    settings = max(key.programs.values(), key=_fast_rate, default=Program()).settings
    return QuotaState(
        limit_per_second=key.limit_per_second,
        remaining_this_second=key.remaining_this_second,
        limit_per_day=key.limit_per_day,
        remaining_today=remaining_now(key, facts, now),
        reserve=reserve(key, settings),
        told_at=None if key.heard is None else key.heard.wall,
        waiting_until=until,
        waiting_why=why,
        rate_per_second=0.0 if until is not None else key_rate(key, settings, now),
        in_flight=facts.in_flight,
        used_last_hour=sum(one.last_hour for one in usage),
        used_last_day=sum(one.last_day for one in usage),
        usage=usage,
        programs=programs,
        events=_read_events(connection, key_id),
        clock=key.clock,
    )


def _fast_rate(program: Program) -> float:
    return program.settings.fast_per_second


def _waiting(key: Key, facts: Facts, now: Instant) -> tuple[float | None, str | None]:
    if key.spent is not None:
        return spent_until(key, facts, now), "the day's calls are spent"
    if key.hold is not None and (rest_s := key.hold.rest_s(now)) > 0:
        return now.wall + rest_s, key.hold.why
    return None, None


def _read_usage(connection: sqlite3.Connection, key_id: str, now: Instant) -> tuple[Usage, ...]:
    rows = connection.execute(
        "SELECT program, purpose, sum(calls * (bucket > ?)), sum(calls) FROM usage"
        " WHERE key_id = ? AND bucket > ? GROUP BY program, purpose ORDER BY program, purpose",
        ((now.wall - HOUR_S) // BUCKET_S, key_id, (now.wall - DAY_S) // BUCKET_S),
    )
    return tuple(Usage(*row) for row in rows)


def _read_events(connection: sqlite3.Connection, key_id: str) -> tuple[Event, ...]:
    rows = connection.execute(
        "SELECT at, kind, message FROM events WHERE key_id = ? ORDER BY id DESC LIMIT 50",
        (key_id,),
    )
    return tuple(Event(*row) for row in rows)


def read_state(path: Path, key_id: str | None, clock: Clock) -> QuotaState | None:
    """The quota as another process left it; None if nothing is known.

    Args:
        path: `quota.db`.
        key_id: the key's fingerprint; None for the key that was used last.
        clock: wall and monotonic time.
    """
    now = Instant(clock.monotonic(), clock.now())
    try:
        connection = open_reader(path, APPLICATION_ID, len(MIGRATIONS))
    except DatabaseUnusable:
        return None
    try:
        row = connection.execute(
            "SELECT key_id FROM ledger WHERE key_id = ? OR ? IS NULL"
            " ORDER BY used_at > ?, used_at DESC LIMIT 1",  # no time of a wrong clock
            (key_id, key_id, now.wall + WRONG_S),
        ).fetchone()
        if row is None:
            return None
        return read_quota(connection, row[0], load_key(connection, row[0]), now)
    except (sqlite3.DatabaseError, Damaged):
        return None
    finally:
        connection.close()
