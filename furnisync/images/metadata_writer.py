"""When `image_metadata.json` is written: where the catalog changed, and never too often.

The whole file is written each time. So the time between two writes grows with its size: no more
than `BYTES_A_DAY` are written a day, and once more at the end of a run that was not stopped.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing

from furnisync.catalog.schema import read_catalog
from furnisync.clock import DAY_S
from furnisync.config import HomeFiles
from furnisync.images.metadata import Interrupted, write_metadata

__all__ = ["MetadataWriter"]

log = logging.getLogger("furnisync.images")

SHORT_S = 1.0
"""A run that was stopped writes the file only if that takes no longer."""
ROWS_PER_S = 100_000
"""A cautious guess of the speed, before it was measured."""
BYTES_A_DAY = 4e9
"""With 4.2 million images the file has 840 MB and is written every five hours."""
REST = 20
"""Writing takes at most one part in so many of the time."""


class MetadataWriter:
    """Writes the metadata file of a home now and then; usable from several threads."""

    def __init__(
        self, files: HomeFiles, every_s: float, is_stopping: Callable[[], bool] = lambda: False
    ) -> None:
        """Make a writer.

        Args:
            files: the home.
            every_s: the shortest time between two writes, in seconds.
            is_stopping: whether the run is told to stop: a write under way ends then.
        """
        self._files = files
        self._every_s = every_s
        self._is_stopping = is_stopping
        self._took_s = 0.0
        self._due = time.monotonic() + max(every_s, self._budget_s() - self._age_s())
        self._version: int | None = None
        self._writing = threading.Lock()

    @property
    def due(self) -> bool:
        """Whether it is time to write."""
        return time.monotonic() >= self._due

    def write(self) -> None:
        """Write the file if the catalog changed since; a full disk leaves the old one."""
        with self._writing:  # a cancelled run leaves its thread at work
            self._write()

    def finish(self, reader: sqlite3.Connection, *, stopped: bool) -> None:
        """Write the file at the end of a run.

        Args:
            reader: of the catalog.
            stopped: a signal ended the run; a file that takes long stays as it was last written.
        """
        if stopped and (self._took_s or _estimate_s(reader)) > SHORT_S:
            log.info("%s stays as last written: it takes long", self._files.metadata.name)
            return
        with self._writing:
            self._is_stopping = lambda: False  # what is left is short
            self._version = None  # counters can stay equal where urls or ranks changed
            self._write()

    def _budget_s(self) -> float:
        """The time between two writes of a file of this size, in seconds."""
        try:
            return self._files.metadata.stat().st_size * DAY_S / BYTES_A_DAY
        except OSError:
            return 0.0

    def _age_s(self) -> float:
        """Seconds since the file was written, by an earlier run; 0 if that is in the future."""
        try:
            return max(0.0, time.time() - self._files.metadata.stat().st_mtime)
        except OSError:
            return 0.0

    def _write(self) -> None:
        began = time.monotonic()
        self._due = began + max(self._every_s, REST * self._took_s, self._budget_s())
        with closing(read_catalog(self._files.catalog)) as reader:
            counters = reader.execute("SELECT name, value FROM counters ORDER BY name").fetchall()
            version = hash(tuple(map(tuple, counters)))
            if version == self._version and self._files.metadata.exists():
                return
            try:
                number = write_metadata(
                    reader, self._files.metadata, self._files.images.name, self._is_stopping
                )
            except Interrupted:
                return
            except OSError as error:
                log.error(  # noqa: TRY400 -- the disk, not the code
                    "%s could not be written: %s", self._files.metadata, error
                )
                return
        self._version = version
        self._took_s = time.monotonic() - began
        self._due = began + max(self._every_s, REST * self._took_s, self._budget_s())
        log.info("%s written: %s listings", self._files.metadata.name, f"{number:,}")


def _estimate_s(reader: sqlite3.Connection) -> float:
    """Seconds that writing may take, by the number of rows."""
    rows = reader.execute(
        "SELECT coalesce(sum(value), 0) FROM counters WHERE name <> 'images.bytes'"
    ).fetchone()[0]
    return float(rows / ROWS_PER_S)
