"""`furnisync backup` and `furnisync restore`."""

import logging
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal

from furnisync.cli.console import TestFlag, clock_time, make_console
from furnisync.cli.live import Bars
from furnisync.clock import Clock, SystemClock
from furnisync.config import HomeFiles, read_environment, read_settings
from furnisync.errors import UserError
from furnisync.home import prepare_home, require_home
from furnisync.http.network import export_network
from furnisync.ops.backup.archive import Manifest
from furnisync.ops.backup.backup import Keep, default_address, make_backup
from furnisync.ops.backup.restore import restore_backup
from furnisync.ops.notify.notifier import notify_now

log = logging.getLogger("furnisync")


def backup(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="TARGET",
            help="A folder, or a URL that fsspec knows; without it backups/ in the home.",
            show_default=False,
        ),
    ] = None,
    *,
    keep_days: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Keep the newest backup of each of the last N days."),
    ] = Keep().days,
    keep_weeks: Annotated[
        int,
        typer.Option(min=0, metavar="M", help="And the newest backup of each of the last M weeks."),
    ] = Keep().weeks,
    test: TestFlag = False,
) -> None:
    """Back up both databases while the syncs run."""
    environment = read_environment()
    export_network(environment.network)
    files = HomeFiles(environment.home, test)
    require_home(files)
    console = make_console()
    address = target or default_address(files)
    clock = SystemClock()
    try:
        with Bars(console) as bars:
            made = make_backup(files, address, Keep(keep_days, keep_weeks), clock, bars.show)
    except UserError:
        _notify_failure(files, clock)
        raise
    console.print(f"Backed up to {made.address}:", soft_wrap=True)
    _print_contents(console, made.manifest)
    if made.removed:
        console.print(
            f"{len(made.removed)} older backups were removed: see --keep-days, --keep-weeks."
        )


def _notify_failure(files: HomeFiles, clock: Clock) -> None:
    """Send a notice at once: no sync may be running, and nobody reads the output of cron."""
    try:
        settings = read_settings(files.settings)
    except UserError as error:
        log.warning("no notice of the failed backup was sent: %s", error)
        return
    notify_now(files, settings, clock)


def restore(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A backup, or the folder or URL of backups: then the newest complete one.",
        ),
    ],
    *,
    test: TestFlag = False,
) -> None:
    """Replace the home's databases by a backup; the replaced files are kept beside it."""
    environment = read_environment()
    export_network(environment.network)
    files = HomeFiles(environment.home, test)
    prepare_home(files)
    console = make_console()
    with Bars(console) as bars:
        done = restore_backup(files, source, SystemClock(), bars.show)
    console.print(
        f"Restored {done.address}, made {clock_time(done.manifest.made_at)}:", soft_wrap=True
    )
    _print_contents(console, done.manifest)
    for path in done.kept:
        console.print(f"The replaced file is kept as {path}", soft_wrap=True)


def _print_contents(console: Console, manifest: Manifest) -> None:
    for copied in manifest.copies:
        rows = f", {sum(copied.rows.values()):,} rows" if copied.rows else ""
        sizes = f"{decimal(copied.bytes_whole)}, {decimal(copied.bytes_packed)} compressed"
        console.print(f"  {copied.role}: {sizes}{rows}, checked")
