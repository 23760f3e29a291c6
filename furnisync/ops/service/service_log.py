"""The log of a service: one file that rotates by itself, for months.

Neither launchd nor a user without root has rotation, so the process does it: all its output, log
lines, prints and tracebacks, goes to `logs/JOB.log` of the home.
"""

import logging
import os
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path

MAX_BYTES = 10_000_000
"""About a month of a line a minute."""
KEEP = 5

STANDARD_OUTPUT, STANDARD_ERROR = 1, 2


class RotatingOutput(RotatingFileHandler):
    """A rotating log file that is also the process's standard output and error."""

    def __init__(self, path: Path, max_bytes: int, keep: int) -> None:
        """Open the log and point the process's output at it.

        Raises:
            OSError: the file cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(path, maxBytes=max_bytes, backupCount=keep, encoding="utf-8")
        self._point_output_here()

    def doRollover(self) -> None:  # noqa: N802 -- the library's name
        """Start a new file, for prints and tracebacks too."""
        super().doRollover()
        self._point_output_here()

    def _point_output_here(self) -> None:
        # By descriptor, so that output of C libraries and a crashing interpreter comes here too.
        if self.stream is None:  # a full disk allowed no new file: the next line tries again
            return
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(self.stream.fileno(), STANDARD_OUTPUT)
        os.dup2(self.stream.fileno(), STANDARD_ERROR)


def log_to(
    path: Path, form: logging.Formatter, max_bytes: int = MAX_BYTES, keep: int = KEEP
) -> None:
    """Send all output of this process to a rotating file; levels of loggers stay as they are.

    Raises:
        OSError: the file cannot be written.
    """
    handler = RotatingOutput(path, max_bytes, keep)
    handler.setFormatter(form)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
