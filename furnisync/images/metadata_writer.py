"""When `image_metadata.json` is written: where the catalog changed, and never too often."""

import logging
import sqlite3
import threading
import time
from contextlib import closing

from furnisync.catalog.schema import read_catalog
from furnisync.config import HomeFiles
from furnisync.images.metadata import write_metadata

__all__ = ["MetadataWriter"]

log = logging.getLogger("furnisync.images")

SHORT_S = 1.0
"""A run that was stopped writes the file only if that takes no longer."""
ROWS_PER_S = 100_000
"""A cautious guess of the speed, before it was measured."""
REST = 20
"""Writing takes at most one part in so many of the time."""


class MetadataWriter:
    """Writes the metadata file of a home now and then; usable from several threads."""

    def __init__(self, files: HomeFiles, every_s: float) -> None:
        """Make a writer; `every_s` is the shortest time between two writes, in seconds."""
        self._files = files
        self._every_s = every_s
        self._due = time.monotonic() + every_s
        self._took_s = 0.0
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
        self._version = None  # counters can stay equal where urls or ranks changed
        self.write()

    def _write(self) -> None:
        began = time.monotonic()
        self._due = began + max(self._every_s, REST * self._took_s)
        with closing(read_catalog(self._files.catalog)) as reader:
            counters = reader.execute("SELECT name, value FROM counters ORDER BY name").fetchall()
            version = hash(tuple(map(tuple, counters)))
            if version == self._version and self._files.metadata.exists():
                return
            try:
                number = write_metadata(reader, self._files.metadata, self._files.images.name)
            except OSError as error:
                log.error(  # noqa: TRY400 -- the disk, not the code
                    "%s could not be written: %s", self._files.metadata, error
                )
                return
        self._version = version
        self._took_s = time.monotonic() - began
        log.info("%s written: %d listings", self._files.metadata.name, number)


def _estimate_s(reader: sqlite3.Connection) -> float:
    """Seconds that writing may take, by the number of rows."""
    rows = reader.execute(
        "SELECT coalesce(sum(value), 0) FROM counters WHERE name <> 'images.bytes'"
    ).fetchone()[0]
    return float(rows / ROWS_PER_S)
