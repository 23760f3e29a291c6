"""The quota ledger: every process that uses an API key requests each call here.

A caller does, for every attempt:

    await ledger.acquire("batch")     # returns when the call may be sent, now
    ...                               # send it
    ledger.settle("batch", read_headers(status, headers, clock.now()))   # or None: no answer came

Both must run in the same task, so that an answer is matched with its call. The rules are in
`quota/rules.py` and `quota/headers.py`, the file in `quota/store.py`.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import msgspec

from furnisync.circuit_breaker import Outage
from furnisync.clock import Clock
from furnisync.config import Mode, QuotaSettings
from furnisync.quota import store as file
from furnisync.quota.clock_check import ClockState
from furnisync.quota.headers import QuotaHeaders, SentCall, absorb, read_headers
from furnisync.quota.lease import Slot, book_slots, is_calm
from furnisync.quota.ledger_file import BUSY_S, LedgerFile
from furnisync.quota.report import (
    Event,
    ProgramState,
    QuotaState,
    Usage,
    read_quota,
    read_state,
)
from furnisync.quota.rules import (
    Caller,
    Pause,
    decide,
    forget_wants,
    note_spent,
    spent_message,
)
from furnisync.quota.state import Facts, Instant, Key, Notice, Program, elapsed_s

__all__ = [
    "Event",
    "Ledger",
    "ProgramState",
    "Purpose",
    "QuotaHeaders",
    "QuotaState",
    "Usage",
    "read_headers",
    "read_state",
]

Purpose = Literal["discovery", "batch", "shops", "reviews", "probe"]

POLL_S = 1.0
"""How long a waiter sleeps at most, so that it sees what other processes learn."""
WANT_EVERY_S = 0.5
FLUSH_S = 0.2
"""An answer that says nothing new is written so late, together with others."""
MATCH_WITHIN_S = 1.0
"""An answer slower than this says nothing about the second of its call."""

T = TypeVar("T")
log = logging.getLogger("furnisync.quota")
_owners = itertools.count(1)


class _Settled(NamedTuple):
    """A call that ended, or a slot that was not used.

    Attributes:
        purpose: what it was made for; None if that is as booked.
        answer: None if none came.
    """

    number: int
    purpose: str | None = None
    answer: QuotaHeaders | None = None
    unused: bool = False


class Ledger:
    """One program's access to the ledger that all processes of a home share.

    Usable from one event loop. Transactions run on its thread: they take about a tenth of a
    millisecond, wait for no disk, and when another process holds the lock the waiter sleeps.
    """

    def __init__(
        self,
        path: Path,
        key_id: str,
        program: str,
        mode: Mode,
        settings: QuotaSettings,
        clock: Clock,
    ) -> None:
        """Open the ledger, or create it.

        Args:
            path: `quota.db`.
            key_id: a fingerprint of the API key, never the key.
            program: "images" or "data".
            mode: how this program paces.
            settings: `[quota]`.
            clock: wall and monotonic time.

        Raises:
            DatabaseUnusable: of a newer version, another program's file, not writable.
        """
        self._key_id, self._program, self._clock = key_id, program, clock
        self._mode, self._settings = mode, settings
        self._owner = f"{os.getpid()}.{next(_owners)}"
        self._turn = asyncio.Lock()  # first come, first served: only its holder queries the file
        self._waiting = 0
        self._woken: asyncio.Event | None = None
        self._flights: dict[int, tuple[str, asyncio.Task[object] | None]] = {}
        self._lease: deque[Slot] = deque()
        self._unsettled: list[_Settled] = []
        self._flushing: asyncio.TimerHandle | None = None
        self._calm_limits: tuple[float | None, int | None] | None = None
        self._notices: list[Notice] = []
        self._spent_told: Instant | None = None
        self._file = LedgerFile(path, key_id, clock, self._start_anew)
        self._insist(self._adopt)

    def _start_anew(self) -> None:
        """A new file numbers its calls from 1: those of the old one are older than all of them."""
        self._flights.clear()
        self._lease.clear()
        self._unsettled = [one._replace(number=0) for one in self._unsettled if not one.unused]

    async def acquire(self, purpose: str) -> None:
        """Wait until this program may send one call; callers are served in order.

        If it is cancelled while it waits, no call is spent.

        Raises:
            DatabaseUnusable: a newer version migrated the file while we ran.
        """
        self._waiting += 1
        try:
            async with self._turn:
                number = await self._next_slot(purpose)
        finally:
            self._waiting -= 1
        self._flights[number] = (purpose, asyncio.current_task())

    async def _next_slot(self, purpose: str) -> int:
        """Wait for the next slot, a leased one or else a new one; returns the call's number."""
        while True:
            if not self._lease:
                granted = self._try_grant(purpose)
                if isinstance(granted, Pause):
                    await self._sleep(granted)
                    continue
                self._lease.extend(granted)
            wait_s = self._lease[0].at_mono - self._clock.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            if not self._lease:
                continue  # a refusal ended the lease meanwhile
            slot = self._lease.popleft()
            if not slot.is_late(self._clock.monotonic()):
                return slot.number
            self._unsettled.append(_Settled(slot.number, unused=True))

    def settle(self, purpose: str, answer: QuotaHeaders | None) -> None:
        """Record what an answer said; None if no answer came (the call still counts)."""
        self._unsettled.append(_Settled(self._take_flight(purpose), purpose, answer))
        if not self._can_wait(answer):
            self._end_lease()
            self._flush()
        elif self._flushing is None:
            self._flush_later(FLUSH_S)

    def _can_wait(self, answer: QuotaHeaders | None) -> bool:
        """Whether an answer says nothing that the next calls must know at once."""
        return (
            answer is not None
            and answer.status == 200
            and answer.remaining_this_second != 0
            and self._calm_limits == (answer.limit_per_second, answer.limit_per_day)
        )

    def _end_lease(self) -> None:
        self._unsettled += [_Settled(slot.number, unused=True) for slot in self._lease]
        self._lease.clear()

    def note_clock(self, state: ClockState | None) -> None:
        """Record how our clock differs from Etsy's, for `status` and notices; None: it agrees."""

        def note(key: Key, _: Facts, __: Instant) -> None:
            before, key.clock = key.clock, state
            if before is not None and state is not None and before.wrong == state.wrong:
                since = min(before.since, state.since)
                key.clock = msgspec.structs.replace(state, since=since)

        self._insist(note)

    def note_outages(self, outages: Sequence[Outage]) -> None:
        """Record what is broken for this program, for `status` and notices."""

        def note(key: Key, _: Facts, __: Instant) -> None:
            self._entry(key).outages = tuple(outages)

        self._insist(note)

    def state(self) -> QuotaState:
        """The present quota."""
        self._flush()
        try:
            key = file.load_key(self._file.connection, self._key_id)
            return read_quota(self._file.connection, self._key_id, key, self._file.now())
        except (sqlite3.DatabaseError, file.Damaged):
            return QuotaState()  # the next call repairs the file or says what is wrong

    def close(self) -> None:
        """Release the calls in flight, then close the file."""
        self._unsettled += [_Settled(number, what) for number, (what, _) in self._flights.items()]
        self._flights.clear()
        self._end_lease()
        if self._flushing is not None:
            self._flushing.cancel()
        self._insist(self._leave)
        self._unsettled.clear()
        self._file.close()

    def _insist(self, work: Callable[[Key, Facts, Instant], None]) -> None:
        """Write at the start and at the end, when a wait of some milliseconds does not matter."""
        for _ in range(500):
            if not isinstance(self._write(work), Pause):
                return
            time.sleep(BUSY_S)

    async def _sleep(self, pause: Pause) -> None:
        """Sleep until the pause is over, or something was settled that may end it."""
        if pause.in_line:
            await asyncio.sleep(min(pause.seconds, POLL_S))
            return
        self._woken = asyncio.Event()
        try:
            async with asyncio.timeout(min(pause.seconds, POLL_S)):
                await self._woken.wait()
        except TimeoutError:
            pass
        finally:
            self._woken = None

    def _take_flight(self, purpose: str) -> int:
        """The number of the call to settle: the task's last, else the oldest with this purpose."""
        task = _current_task()
        flights = self._flights.items()
        own = (number for number, (_, sender) in reversed(flights) if task and sender is task)
        alike = (number for number, (what, _) in flights if what == purpose)
        number = next(own, None) or next(alike, 0)
        self._flights.pop(number, None)
        return number

    def _flush(self) -> None:
        """Write the settled calls; later if the file is busy."""
        self._flushing = None
        if not self._unsettled:
            return
        written = self._write(lambda *_: None)
        if isinstance(written, Pause):
            self._flush_later(written.seconds)
        elif self._woken is not None:
            self._woken.set()

    def _flush_later(self, seconds: float) -> None:
        with contextlib.suppress(RuntimeError):  # no loop: the next transaction writes it
            self._flushing = asyncio.get_running_loop().call_later(seconds, self._flush)

    # -- transactions ------------------------------------------------------------------------

    def _try_grant(self, purpose: str) -> list[Slot] | Pause:
        return self._write(lambda key, facts, now: self._grant(key, purpose, facts, now))

    def _write(self, work: Callable[[Key, Facts, Instant], T]) -> T | Pause:
        """Run `work` on the key in one transaction, after the calls that wait to be settled.

        A busy, full or damaged file results in a pause.
        """
        settled = len(self._unsettled)

        def write(key: Key, now: Instant) -> tuple[T, Key, bool]:
            facts = self._catch_up(key, now)
            result = work(key, facts, now)
            return result, key, is_calm(key, Caller(self._program, self._entry(key)), facts, now)

        written = self._file.write(write)
        if isinstance(written, Pause):
            return written
        result, key, calm = written
        del self._unsettled[:settled]
        self._calm_limits = (key.limit_per_second, key.limit_per_day) if calm else None
        self._tell(key)
        return result

    def _adopt(self, key: Key, _: Facts, now: Instant) -> None:
        """Add this program, and clean up after processes that died."""
        self._entry(key).outages = ()
        for number in file.list_orphans(self._file.connection, self._key_id):
            self._settle_one(key, _Settled(number), now)

    def _leave(self, key: Key, _: Facts, __: Instant) -> None:
        entry = self._entry(key)
        entry.wants.pop(self._owner, None)
        entry.outages = ()

    def _entry(self, key: Key) -> Program:
        entry = key.programs.setdefault(self._program, Program())
        entry.mode, entry.settings = self._mode, self._settings
        return entry

    def _grant(self, key: Key, purpose: str, facts: Facts, now: Instant) -> list[Slot] | Pause:
        caller = Caller(self._program, self._entry(key))
        wants = caller.program.wants
        verdict = decide(key, caller, facts, now)
        if isinstance(verdict, Pause):
            if not verdict.in_line:
                wants.pop(self._owner, None)
            elif not 0 <= now.mono - wants.get(self._owner, -WANT_EVERY_S) < WANT_EVERY_S:
                wants[self._owner] = now.mono
            return verdict
        slots = book_slots(key, caller, facts, now, self._waiting)
        granted = file.Granted(self._program, purpose, self._owner)
        file.add_calls(self._file.connection, self._key_id, slots, granted, now)
        if self._waiting <= len(slots) or self._mode == "slow":
            wants.pop(self._owner, None)  # nobody else waits
        return slots

    def _catch_up(self, key: Key, now: Instant) -> Facts:
        """Settle the waiting calls, and check whether the day is spent."""
        self._notices = []
        for settled in self._unsettled:
            self._settle_one(key, settled, now)
        if key.trimmed is None or elapsed_s(key.trimmed, now) > file.TRIM_EVERY_S:
            key.trimmed = now
            forget_wants(key, now)
            for number in file.list_lost(self._file.connection, self._key_id, now):
                self._flights.pop(number, None)
                self._settle_one(key, _Settled(number), now)
            file.trim(self._file.connection, self._key_id, now)
        facts = file.load_facts(self._file.connection, self._key_id, key, now)
        if notice := note_spent(key, self._settings, facts, now):
            self._notices.append(notice)
        for notice in self._notices:
            file.add_event(self._file.connection, self._key_id, notice, now)
        if key.spent is not None and key.spent != self._spent_told:
            # Each process logs it, not only the first one that noticed.
            line = Notice("spent", spent_message(key, facts, now), logging.WARNING)
            self._notices.append(line)
        return facts

    def _settle_one(self, key: Key, settled: _Settled, now: Instant) -> None:
        number, purpose, answer, unused = settled
        if unused:
            file.remove_call(self._file.connection, self._key_id, self._program, number, now)
            return
        row = file.mark_answered(self._file.connection, self._key_id, number)
        own = None
        if row is not None:
            mono, booked = row
            if purpose is not None and purpose != booked:  # a lease is booked for its first call
                names = (self._program, booked, purpose)
                booked_at = now.wall - now.mono + mono
                file.correct_usage(self._file.connection, self._key_id, names, booked_at)
            full = answer is not None and answer.remaining_this_second == 0
            if full and now.mono - mono < MATCH_WITHIN_S:
                own = file.count_around(self._file.connection, self._key_id, mono)
        self._notices += absorb(key, answer, SentCall(number, own), now)

    def _tell(self, key: Key) -> None:
        self._spent_told = key.spent
        for notice in self._notices:
            if notice.level is not None:
                log.log(notice.level, "%s", notice.message)


def _current_task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
