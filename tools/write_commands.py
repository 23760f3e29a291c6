"""Writes docs/commands.md: the help of every command, as the program itself says it.

Run by `make docs`; `tests/docs` fails where the page is not what this would write.
"""

from collections.abc import Iterator
from pathlib import Path

import typer.main
from typer.core import TyperGroup
from typer.testing import CliRunner

from furnisync.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "commands.md"
WIDTH = 78
HEAD = """\
# Commands

Written by `make docs` from the program's own help. `sync_images.py` is `furnisync images`,
`sync_data.py` is `furnisync data`. After wrong usage and other errors that only you can fix,
a command ends with one sentence and exit status 2. A sync that left something ends with 1.
"""


def commands(group: TyperGroup, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command, groups before what is in them."""
    for name, command in group.commands.items():
        yield (*words, name)
        if isinstance(command, TyperGroup):
            yield from commands(command, (*words, name))


def help_of(words: tuple[str, ...]) -> str:
    """What `furnisync WORDS --help` prints."""
    done = CliRunner(env={"COLUMNS": str(WIDTH + 2)}).invoke(  # for argparse, of the sandbox
        app, [*words, "--help"], prog_name="furnisync", terminal_width=WIDTH, catch_exceptions=False
    )
    return done.stdout.strip()


def page() -> str:
    """The whole page."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    parts = [HEAD]
    for words in commands(group):
        title = " ".join(("furnisync", *words))
        parts.append(f"## {title}\n\n```text\n{help_of(words)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
