"""Logging: to the terminal above the bars, or as plain lines."""

import logging
import sys
from types import TracebackType

from rich.console import Console
from rich.logging import RichHandler

from furnisync.sanitize import plain

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
"""As the library gives it."""

LINE = "%(asctime)s %(levelname)s %(message)s"
TIME = "%Y-%m-%d %H:%M:%S"


class PlainFormatter(logging.Formatter):
    """A message is one line and nothing to obey, whatever an answer said; so is a traceback's."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 -- the library's name
        """The line without its traceback."""
        record.message = plain(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: ExcInfo) -> str:  # noqa: N802 -- the library's name
        """The traceback in its lines, with what an error quotes from outside."""
        return plain(super().formatException(ei), keep="\n")


def start_logging(console: Console) -> None:
    """Send the log of this package to the console; libraries speak from warnings on."""
    handler: logging.Handler
    if console.is_terminal:
        handler = RichHandler(console=console, show_path=False, rich_tracebacks=False, markup=False)
        handler.setFormatter(PlainFormatter("%(message)s", "%H:%M:%S"))
    else:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(PlainFormatter(LINE, TIME))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("furnisync").setLevel(logging.INFO)
    logging.getLogger("stamina").setLevel(logging.ERROR)
