"""One transaction at a time on the ledger's file, which other processes share, move aside, fill."""

import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from furnisync.clock import Clock
from furnisync.errors import DatabaseUnusable
from furnisync.quota import store
from furnisync.quota.rules import Pause
from furnisync.quota.state import Instant, Key
from furnisync.sqlite.database import transaction

__all__ = ["BUSY_S", "LedgerFile"]

T = TypeVar("T")
log = logging.getLogger("furnisync.quota")

BUSY_S = 0.001
"""Wait while another process writes, which takes about a tenth of this."""
UNWRITABLE_S = 1.0
WARN_EVERY_S = 60.0
CHECK_FILE_EVERY_S = 1.0


class LedgerFile:
    """The file of a ledger, open; it follows when another process creates a new one.

    Attributes:
        connection: to the present file; it changes with the file.
    """

    def __init__(self, path: Path, key_id: str, clock: Clock, on_new: Callable[[], None]) -> None:
        """Open the file, or create it.

        Args:
            path: `quota.db`.
            key_id: a fingerprint of the API key.
            clock: wall and monotonic time.
            on_new: called after each opening; what was known of an older file does not hold.

        Raises:
            DatabaseUnusable: of a newer version, another program's file, not writable.
        """
        self._path, self._key_id, self._clock, self._on_new = path, key_id, clock, on_new
        self._unwritable_mono: float | None = None
        self._mended_mono: float | None = None
        self._open()

    def _open(self) -> None:
        self.connection = store.open_ledger(self._path)
        self._inode = store.inode_of(self._path)
        self._checked_mono = self._clock.monotonic()
        self._on_new()

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def now(self) -> Instant:
        """The time on both clocks."""
        return Instant(self._clock.monotonic(), self._clock.now())

    def write(self, work: Callable[[Key, Instant], T]) -> T | Pause:
        """Run `work` on the key in one transaction.

        A busy or full file results in a pause, a damaged one is created again.

        Raises:
            DatabaseUnusable: it is damaged again and again.
        """
        self._follow()
        try:
            with transaction(self.connection):
                now = self.now()  # inside, because waiting for the lock may have taken time
                key = store.load_key(self.connection, self._key_id)
                before = store.encode_key(key)
                result = work(key, now)
                if store.encode_key(key) != before:
                    store.save_key(self.connection, self._key_id, key, now)
        except (sqlite3.DatabaseError, store.Damaged) as error:
            return self._recover(error)
        self._unwritable_mono = None
        return result

    def _recover(self, error: Exception) -> Pause:
        now = self._clock.monotonic()
        if store.is_busy(error):
            return Pause(BUSY_S, "another process writes", in_line=True)
        if store.is_damage(error):
            if self._mended_mono is not None and now - self._mended_mono < WARN_EVERY_S:
                raise DatabaseUnusable(
                    f"{self._path} is damaged again and again ({error}): check the disk."
                ) from error
            self._mended_mono = now
            self.connection.close()
            store.move_aside(self._path, self._inode, str(error))
            self._open()
            return Pause(BUSY_S, "the ledger was created again", in_line=True)
        if self._unwritable_mono is None or now - self._unwritable_mono > WARN_EVERY_S:
            self._unwritable_mono = now
            log.warning("%s cannot be written (%s): no calls until it can", self._path, error)
        return Pause(UNWRITABLE_S, "the ledger cannot be written", in_line=True)

    def _follow(self) -> None:
        """Switch to the new file after another process moved the old one aside."""
        now = self._clock.monotonic()
        if 0 <= now - self._checked_mono < CHECK_FILE_EVERY_S:
            return
        self._checked_mono = now
        if store.inode_of(self._path) != self._inode:
            self.connection.close()
            self._open()
