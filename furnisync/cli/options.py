"""Options that several commands share."""

from typing import Annotated

import typer

from furnisync.config import Mode

TestFlag = Annotated[
    bool, typer.Option("--test", help="Use test files and folders instead of production's.")
]


def choose_mode(*, slow: bool, fast: bool) -> Mode:
    """The mode of `--slow` and `--fast`; slow where neither is given.

    Raises:
        BadParameter: both are given.
    """
    if slow and fast:
        raise typer.BadParameter("--slow and --fast exclude each other.")
    return "fast" if fast else "slow"
