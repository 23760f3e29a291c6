"""Runs data sync for a command line: signals, view, summary, exit status."""

import asyncio
from typing import Annotated

import typer

from furnisync.cli.data_views import make_data_view, print_data_status
from furnisync.cli.options import TestFlag, choose_mode
from furnisync.cli.signals import run_until_signal
from furnisync.cli.sync import read_surroundings
from furnisync.collect.sync import DataRun, DataSync
from furnisync.status.history import DataStatus, read_data_status


def data(
    *,
    slow: Annotated[
        bool, typer.Option("--slow", help="About one call a second, until no shop is due.")
    ] = False,
    fast: Annotated[
        bool, typer.Option("--fast", help="As fast as the key allows, until no shop is due.")
    ] = False,
    continuous: Annotated[
        bool, typer.Option("--continuous", help="Slow, for ever, taking up what becomes due.")
    ] = False,
    top: Annotated[
        int | None,
        typer.Option("--top", min=1, metavar="N", help="Only the N shops with most listings."),
    ] = None,
    furniture_only: Annotated[
        bool,
        typer.Option("--furniture-only", help="Only listings that image sync knows, by batch."),
    ] = False,
    test: TestFlag = False,
) -> None:
    """Collect shops, listings and reviews over time into etsy_data.db."""
    if continuous and fast:
        raise typer.BadParameter("--continuous runs in slow mode; leave out --fast.")
    run = DataRun(choose_mode(slow=slow, fast=fast), continuous, top, furniture_only, test)
    raise typer.Exit(run_data_sync(run))


def run_data_sync(run: DataRun) -> int:
    """Run to the end.

    Returns:
        exit status: 0 all that was due is served or a signal stopped it, 1 something waits.

    Raises:
        UserError: wrong input or surroundings.
    """
    around = read_surroundings("data", test=run.test)
    upkeep = around.retention().purge_history
    with make_data_view(around.console) as view, around.watch() as watch:

        def show(status: DataStatus) -> None:
            view.show(status)
            watch.look()

        sync = DataSync(around.environment, around.settings, run, around.clock, show, upkeep)
        stopped, complete = asyncio.run(run_until_signal(sync, watch.expect_end))
    status = read_data_status(around.files, around.settings.data, around.clock)
    print_data_status(around.console, status, around.files)
    return around.end(
        stopped=stopped,
        complete=complete,
        otherwise="Not every shop could be served; the same command tries the rest again.",
    )
