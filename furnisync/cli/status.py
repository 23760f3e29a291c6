"""`furnisync status`: the whole picture, at any time."""

import sys
from typing import Annotated

import typer

from furnisync.cli.console import make_console
from furnisync.cli.data_views import print_data_status
from furnisync.cli.options import TestFlag
from furnisync.cli.tables import print_status
from furnisync.clock import SystemClock
from furnisync.config import HomeFiles, read_environment, read_settings
from furnisync.home import require_home
from furnisync.status.history import read_data_status, to_json
from furnisync.status.images import read_status


def status(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
    test: TestFlag = False,
) -> None:
    """Show what there is, what runs, what is left, what failed and why; at any time."""
    files = HomeFiles(read_environment().home, test)
    require_home(files)
    clock = SystemClock()
    found = read_status(files, clock)
    history = None
    if files.history.exists():
        history = read_data_status(files, read_settings(files.settings).data, clock)
    if as_json:
        sys.stdout.write(to_json(found, history) + "\n")
        return
    print_status(make_console(), found, files)
    if history is not None:
        make_console().print()
        print_data_status(make_console(), history, files)
