"""Watches a running sync: a heartbeat and a check for alerts each minute.

Both run in a thread, so that a notice service that does not answer delays nothing.
"""

import logging
import os
import threading
import time
from types import TracebackType
from typing import Self

from furnisync.clock import Clock
from furnisync.config import HomeFiles, Settings
from furnisync.errors import AlreadyRunning, FurnisyncError, KeyRefused, MissingExtra
from furnisync.extras import require_extra
from furnisync.ops.notify.alerts import Heartbeat
from furnisync.ops.notify.notifier import Notifier, remembering
from furnisync.ops.service.service import Job

log = logging.getLogger("furnisync")

CHECK_EVERY_S = 60.0
LAST_CHECK_S = 15.0


class Watch:
    """A context manager around a sync; without addresses in the settings it does nothing."""

    def __init__(self, job: Job, files: HomeFiles, settings: Settings, clock: Clock) -> None:
        self._job: Job = job
        self._files = files
        self._clock = clock
        self._notifier = Notifier(files, settings, clock)
        self._looked_at = float("-inf")
        self._thread: threading.Thread | None = None
        self._ending = False

    def look(self) -> None:
        """Call as often as you like while the sync runs; returns at once."""
        now = time.monotonic()
        if not self._notifier.is_on or self._ending or now - self._looked_at < CHECK_EVERY_S:
            return
        if self._thread is not None and self._thread.is_alive():
            return
        self._looked_at = now
        self._start(Heartbeat(self._clock.now(), os.getpid()))

    def expect_end(self) -> None:
        """The user ends the sync: from now on no end of the process is a crash.

        Saved before it returns, as a second signal or the system may kill the process any moment.
        """
        self._ending = True
        if self._notifier.is_on:
            self._save(None)

    def __enter__(self) -> Self:
        if self._notifier.is_on:
            try:
                require_extra("notices")
            except MissingExtra as error:  # the sync does not depend on notices
                log.warning("no notices can be sent: %s", error)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._notifier.is_on or isinstance(error, AlreadyRunning):
            return
        if self._thread is not None:
            self._thread.join(LAST_CHECK_S)
        if not isinstance(error, Exception):
            self._save(None)  # ended by itself or by a signal
            return
        self._ending = False
        words = str(error) if isinstance(error, FurnisyncError) else f"{type(error).__name__}"
        beat = Heartbeat(self._clock.now(), os.getpid(), words, isinstance(error, KeyRefused))
        self._start(beat).join(LAST_CHECK_S)

    def _start(self, beat: Heartbeat) -> threading.Thread:
        self._thread = threading.Thread(target=self._run, args=(beat,), name="notices", daemon=True)
        self._thread.start()
        return self._thread

    def _run(self, beat: Heartbeat) -> None:
        if self._save(beat):
            try:
                self._notifier.look()
            except Exception as error:  # noqa: BLE001 -- a notice must not fail the sync
                log.warning("notices: the check failed (%s: %s)", type(error).__name__, error)

    def _save(self, beat: Heartbeat | None) -> bool:
        """Save a heartbeat, or a clean end; False if that could not be written."""
        try:
            with remembering(self._files) as memory:
                if beat is None or self._ending:
                    memory.life.beats.pop(self._job, None)
                else:
                    memory.life.beats[self._job] = beat
        except OSError as error:
            log.warning("notices: %s cannot be written: %s", self._files.notices, error)
            return False
        return True
