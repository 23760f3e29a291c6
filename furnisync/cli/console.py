"""What every command uses: shared options, the console, the log, numbers and times as text."""

import logging
import sys
from collections.abc import Collection
from datetime import datetime
from types import TracebackType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table
from rich.text import Text

from furnisync.sanitize import plain

TestFlag = Annotated[
    bool, typer.Option("--test", help="Use test files and folders instead of production's.")
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]

EXIT_INCOMPLETE = 1
"""Something is left to do, or was found wrong."""
EXIT_USAGE = 2
"""Wrong input or surroundings."""

FILE_WIDTH = 140
"""Columns of a file or pipe: wide enough for tables."""
LINE = "%(asctime)s %(levelname)s %(message)s"
TIME = "%Y-%m-%d %H:%M:%S"

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
"""As `logging` gives it."""


class PlainConsole(Console):
    """A console that prints strings as they are: no markup, no emoji codes, no control characters.

    Titles, names and reasons come from outside, and a table does not know in which of its cells.
    Styles are given by `style=` or `Text` instead.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Make a string printable; every string passes here on its way into a line or a cell."""
        options["markup"] = options["emoji"] = False
        return super().render_str(plain(text, keep="\n\t"), **options)


def make_console(*, stderr: bool = False) -> Console:
    """The console for standard output, or for errors."""
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return PlainConsole(width=None if terminal else FILE_WIDTH, stderr=stderr)


def say(text: str) -> None:
    """Print lines on standard output, unwrapped, so that they can be copied."""
    make_console().print(text, soft_wrap=True, highlight=False)


def make_table(*columns: str, right: Collection[str] = (), title: str | None = None) -> Table:
    """A table without lines.

    Args:
        columns: their heads; without any the table shows no heads.
        right: the columns that are aligned to the right.
        title: stands above the table.
    """
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.show_header = bool(columns)
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return table


def make_facts() -> Table:
    """A table of names and values."""
    table = make_table()
    table.add_column(style="dim", justify="right")
    table.add_column(overflow="fold")
    return table


# -- log -------------------------------------------------------------------------------------------


class PlainFormatter(logging.Formatter):
    """Writes a message as one line without control characters; a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 -- the library's name
        """The line without its traceback."""
        record.message = plain(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: ExcInfo) -> str:  # noqa: N802 -- the library's name
        """The lines of the traceback."""
        return plain(super().formatException(ei), keep="\n")


def start_logging(console: Console) -> None:
    """Log to the console: above the bars of a terminal, plain lines elsewhere.

    This package logs from INFO on, libraries from WARNING on.
    """
    handler: logging.Handler
    if console.is_terminal:
        handler = RichHandler(console=console, show_path=False, rich_tracebacks=False, markup=False)
        handler.setFormatter(PlainFormatter("%(message)s", "%H:%M:%S"))
    else:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(PlainFormatter(LINE, TIME))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("furnisync").setLevel(logging.INFO)


# -- numbers and times -----------------------------------------------------------------------------


def clock_time(at: float) -> str:
    """Unix seconds as local time with the date."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M")


def price_range(low: float | None, high: float | None) -> str:
    """A price interval in US dollars; None is an open end."""
    least = "0" if low is None else f"{low:,.10g}"
    return f"{least} and more" if high is None else f"{least} to {high:,.10g}"
