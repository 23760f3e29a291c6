"""Runs image sync for a command line: signals, view, summary, exit status."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from furnisync.cli.console import make_console
from furnisync.cli.live import make_view
from furnisync.cli.options import TestFlag, choose_mode
from furnisync.cli.signals import run_until_signal
from furnisync.cli.sync import read_surroundings
from furnisync.cli.tables import print_status
from furnisync.crawl.discovery import Scope
from furnisync.images.ids_file import read_ids
from furnisync.images.sync import ImageRun, ImageSync
from furnisync.status.images import Status, read_status


def images(
    ids_file: Annotated[
        Path | None,
        typer.Argument(
            metavar="ids.txt", help="Sync just the listings of this file, one id or url a line."
        ),
    ] = None,
    *,
    slow: Annotated[
        bool, typer.Option("--slow", help="About one call a second, for ever (the default).")
    ] = False,
    fast: Annotated[
        bool, typer.Option("--fast", help="As fast as the key allows; ends when all is done.")
    ] = False,
    reset_shops: Annotated[
        bool, typer.Option("--reset-shops", help="Forget which shops were done, then run.")
    ] = False,
    every_shop: Annotated[
        bool, typer.Option("--every-shop", help="Read each due shop's own list too (costs calls).")
    ] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="Stop after N listings.")
    ] = None,
    test: TestFlag = False,
) -> None:
    """Find every furniture listing and download its images."""
    if ids_file is not None and limit is not None:
        raise typer.BadParameter("--limit and an ids file exclude each other.")
    mode = choose_mode(slow=slow, fast=fast)
    ids = None
    if ids_file is not None:
        found = read_ids(ids_file)
        if complaint := found.complaint(ids_file):
            make_console(stderr=True).print(f"{complaint}; the rest is done.", style="yellow")
        ids = found.ids
    scope = Scope(limit=limit, ids=ids, every_shop=every_shop)
    raise typer.Exit(run_image_sync(ImageRun(mode, scope, reset_shops, test)))


def run_image_sync(run: ImageRun) -> int:
    """Run to the end.

    Returns:
        exit status: 0 all done or stopped by a signal, 1 something could not be read and waits.

    Raises:
        UserError: wrong input or surroundings.
    """
    around = read_surroundings("images", test=run.test)
    upkeep = around.retention().purge_catalog
    with make_view(around.console) as view, around.watch() as watch:

        def show(status: Status) -> None:
            view.show(status)
            watch.look()

        sync = ImageSync(around.environment, around.settings, run, around.clock, show, upkeep)
        stopped, complete = asyncio.run(run_until_signal(sync, watch.expect_end))
    print_status(around.console, read_status(around.files, around.clock), around.files)
    return around.end(
        stopped=stopped,
        complete=complete,
        otherwise="Not everything could be read: see above. The same command tries the rest again.",
    )
