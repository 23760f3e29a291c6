"""Where words go: the terminal as wide as it is, files and pipes wide enough for tables."""

import sys

from rich.console import Console

FILE_WIDTH = 140


def make_console() -> Console:
    """The console for standard output."""
    return Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
