"""Where words go: the terminal as wide as it is, files and pipes wide enough for tables."""

import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from furnisync.sanitize import plain

FILE_WIDTH = 140


class PlainConsole(Console):
    """A console that prints strings as they are: no markup, no emoji codes, nothing to obey.

    Titles, names and reasons come from anybody, and a table does not know which of its cells do.
    Styles are given by `style=` or `Text` instead.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every string passes here, on its way into a line or a cell."""
        options["markup"] = options["emoji"] = False
        return super().render_str(plain(text, keep="\n\t"), **options)


def say(words: str) -> None:
    """Say some lines on standard output at once, unwrapped, so that they can be copied."""
    make_console().print(words, soft_wrap=True, highlight=False)


def make_console(*, stderr: bool = False) -> Console:
    """The console for standard output, or for errors."""
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return PlainConsole(width=None if terminal else FILE_WIDTH, stderr=stderr)
