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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from furnisync.circuit_breaker import Outage
from furnisync.clock import Clock
from furnisync.config import Mode, QuotaSettings
from furnisync.errors import DatabaseUnusable
from furnisync.quota import store as file
from furnisync.quota.clock_check import ClockState
from furnisync.quota.headers import QuotaHeaders, SentCall, absorb, read_headers
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
    book_grant,
    decide,
    forget_wants,
    note_spent,
    spent_message,
)
from furnisync.quota.state import Facts, Instant, Key, Notice, Program, elapsed_s
from furnisync.sqlite.database import transaction

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
BUSY_S = 0.001
"""Wait while another process writes, which takes about a tenth of this."""
UNWRITABLE_S = 1.0
WARN_EVERY_S = 60.0
WANT_EVERY_S = 0.5
CHECK_FILE_EVERY_S = 1.0
MATCH_WITHIN_S = 1.0
"""An answer slower than this says nothing about the second of its call."""

T = TypeVar("T")
log = logging.getLogger("furnisync.quota")
_owners = itertools.count(1)


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
        self._path, self._key_id, self._program = path, key_id, program
        self._mode, self._settings, self._clock = mode, settings, clock
        self._owner = f"{os.getpid()}.{next(_owners)}"
        self._turn = asyncio.Lock()  # first come, first served: only its holder queries the file
        self._waiting = 0
        self._woken: asyncio.Event | None = None
        self._flights: dict[int, tuple[str, asyncio.Task[object] | None]] = {}
        self._unsettled: list[tuple[int, QuotaHeaders | None]] = []
        self._notices: list[Notice] = []
        self._spent_told: Instant | None = None
        self._unwritable_mono: float | None = None
        self._mended_mono: float | None = None
        self._open()
        self._insist(self._adopt)

    def _open(self) -> None:
        self._connection = file.open_ledger(self._path)
        self._inode = file.inode_of(self._path)
        self._checked_mono = self._clock.monotonic()
        # A new file numbers its calls from 1: those of the old one are older than all of them.
        self._flights.clear()
        self._unsettled = [(0, answer) for _, answer in self._unsettled]

    async def acquire(self, purpose: str) -> None:
        """Wait until this program may send one call; callers are served in order.

        If it is cancelled while it waits, no call is spent.

        Raises:
            DatabaseUnusable: a newer version migrated the file while we ran.
        """
        self._waiting += 1
        try:
            async with self._turn:
                while isinstance(verdict := self._try_grant(purpose), Pause):
                    await self._sleep(verdict)
        finally:
            self._waiting -= 1
        self._flights[verdict] = (purpose, asyncio.current_task())

    def settle(self, purpose: str, answer: QuotaHeaders | None) -> None:
        """Record what an answer said; None if no answer came (the call still counts)."""
        self._unsettled.append((self._take_flight(purpose), answer))
        self._flush()

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
        try:
            key = file.load_key(self._connection, self._key_id)
            return read_quota(self._connection, self._key_id, key, self._now())
        except (sqlite3.DatabaseError, file.Damaged):
            return QuotaState()  # the next call repairs the file or says what is wrong

    def close(self) -> None:
        """Release the calls in flight, then close the file."""
        self._unsettled += [(number, None) for number in self._flights]
        self._flights.clear()
        self._insist(self._leave)
        self._unsettled.clear()
        self._connection.close()

    def _insist(self, work: Callable[[Key, Facts, Instant], None]) -> None:
        """Write at the start and at the end, when a wait of some milliseconds does not matter."""
        for _ in range(500):
            if not isinstance(self._write(work), Pause):
                return
            time.sleep(BUSY_S)

    def _now(self) -> Instant:
        return Instant(self._clock.monotonic(), self._clock.now())

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
        if not self._unsettled:
            return
        written = self._write(lambda *_: None)
        if isinstance(written, Pause):
            with contextlib.suppress(RuntimeError):  # no loop: the next transaction writes it
                asyncio.get_running_loop().call_later(written.seconds, self._flush)
        elif self._woken is not None:
            self._woken.set()

    # -- transactions ------------------------------------------------------------------------

    def _try_grant(self, purpose: str) -> int | Pause:
        return self._write(lambda key, facts, now: self._grant(key, purpose, facts, now))

    def _write(self, work: Callable[[Key, Facts, Instant], T]) -> T | Pause:
        """Run `work` on the key in one transaction, after the calls that wait to be settled.

        A busy or full file results in a pause, a damaged one is created again.
        """
        self._follow_file()
        settled = len(self._unsettled)
        try:
            with transaction(self._connection):
                now = self._now()  # inside, because waiting for the lock may have taken time
                key = file.load_key(self._connection, self._key_id)
                before = file.encode_key(key)
                facts = self._catch_up(key, now)
                result = work(key, facts, now)
                if file.encode_key(key) != before:
                    file.save_key(self._connection, self._key_id, key, now)
        except (sqlite3.DatabaseError, file.Damaged) as error:
            return self._recover(error)
        del self._unsettled[:settled]
        self._unwritable_mono = None
        self._tell(key)
        return result

    def _recover(self, error: Exception) -> Pause:
        now = self._clock.monotonic()
        if file.is_busy(error):
            return Pause(BUSY_S, "another process writes", in_line=True)
        if file.is_damage(error):
            if self._mended_mono is not None and now - self._mended_mono < WARN_EVERY_S:
                raise DatabaseUnusable(
                    f"{self._path} is damaged again and again ({error}): check the disk."
                ) from error
            self._mended_mono = now
            self._connection.close()
            file.move_aside(self._path, self._inode, str(error))
            self._open()
            return Pause(BUSY_S, "the ledger was created again", in_line=True)
        if self._unwritable_mono is None or now - self._unwritable_mono > WARN_EVERY_S:
            self._unwritable_mono = now
            log.warning("%s cannot be written (%s): no calls until it can", self._path, error)
        return Pause(UNWRITABLE_S, "the ledger cannot be written", in_line=True)

    def _follow_file(self) -> None:
        """Switch to the new file after another process moved the old one aside."""
        now = self._clock.monotonic()
        if 0 <= now - self._checked_mono < CHECK_FILE_EVERY_S:
            return
        self._checked_mono = now
        if file.inode_of(self._path) != self._inode:
            self._connection.close()
            self._open()

    def _adopt(self, key: Key, _: Facts, now: Instant) -> None:
        """Add this program, and clean up after processes that died."""
        self._entry(key).outages = ()
        for number in file.list_orphans(self._connection, self._key_id):
            self._settle_one(key, number, None, now)

    def _leave(self, key: Key, _: Facts, __: Instant) -> None:
        entry = self._entry(key)
        entry.wants.pop(self._owner, None)
        entry.outages = ()

    def _entry(self, key: Key) -> Program:
        entry = key.programs.setdefault(self._program, Program())
        entry.mode, entry.settings = self._mode, self._settings
        return entry

    def _grant(self, key: Key, purpose: str, facts: Facts, now: Instant) -> int | Pause:
        caller = Caller(self._program, self._entry(key))
        wants = caller.program.wants
        verdict = decide(key, caller, facts, now)
        if isinstance(verdict, Pause):
            if not verdict.in_line:
                wants.pop(self._owner, None)
            elif not 0 <= now.mono - wants.get(self._owner, -WANT_EVERY_S) < WANT_EVERY_S:
                wants[self._owner] = now.mono
            return verdict
        number = book_grant(key, caller, facts, now)
        call = (number, self._program, purpose, self._owner)
        file.add_call(self._connection, self._key_id, call, now)
        if self._waiting <= 1 or self._mode == "slow":
            wants.pop(self._owner, None)  # nobody else waits
        return number

    def _catch_up(self, key: Key, now: Instant) -> Facts:
        """Settle the waiting calls, and check whether the day is spent."""
        self._notices = []
        for number, answer in self._unsettled:
            self._settle_one(key, number, answer, now)
        if key.trimmed is None or elapsed_s(key.trimmed, now) > file.TRIM_EVERY_S:
            key.trimmed = now
            forget_wants(key, now)
            for number in file.list_lost(self._connection, self._key_id, now):
                self._flights.pop(number, None)
                self._settle_one(key, number, None, now)
            file.trim(self._connection, self._key_id, now)
        facts = file.load_facts(self._connection, self._key_id, key, now)
        if notice := note_spent(key, self._settings, facts, now):
            self._notices.append(notice)
        for notice in self._notices:
            file.add_event(self._connection, self._key_id, notice, now)
        if key.spent is not None and key.spent != self._spent_told:
            # Each process logs it, not only the first one that noticed.
            line = Notice("spent", spent_message(key, facts, now), logging.WARNING)
            self._notices.append(line)
        return facts

    def _settle_one(self, key: Key, number: int, answer: QuotaHeaders | None, now: Instant) -> None:
        mono = file.mark_answered(self._connection, self._key_id, number)
        own = None
        if mono is not None and now.mono - mono < MATCH_WITHIN_S and answer is not None:
            own = file.count_around(self._connection, self._key_id, mono)
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
