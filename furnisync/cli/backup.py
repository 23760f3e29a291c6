"""`furnisync backup` and `furnisync restore`."""

import logging
from typing import Annotated, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from furnisync.cli.console import make_console
from furnisync.cli.words import clock_time, size
from furnisync.clock import Clock, SystemClock
from furnisync.config import HomeFiles, read_environment, read_settings
from furnisync.errors import UserError
from furnisync.home import prepare_home, require_home
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
            help="A folder, or a url that fsspec knows; backups/ in the home if left out.",
            show_default=False,
        ),
    ] = None,
    *,
    keep_days: Annotated[
        int, typer.Option(min=1, metavar="N", help="Keep the newest of each of the last N days.")
    ] = Keep().days,
    keep_weeks: Annotated[
        int, typer.Option(min=0, metavar="M", help="And the newest of each of the last M weeks.")
    ] = Keep().weeks,
    test: Annotated[
        bool, typer.Option("--test", help="Of the test files instead of production's.")
    ] = False,
) -> None:
    """Copy both databases to a safe place, while the syncs run."""
    files = HomeFiles(read_environment().home, test)
    require_home(files)
    console = make_console()
    address = target or default_address(files)
    clock = SystemClock()
    try:
        with _Bars(console) as bars:
            made = make_backup(files, address, Keep(keep_days, keep_weeks), clock, bars.show)
    except UserError:
        _tell_somebody(files, clock)
        raise
    console.print(f"Backed up to {made.address}:", soft_wrap=True)
    _print_contents(console, made.manifest)
    if made.removed:
        console.print(f"{len(made.removed)} older ones are past their time and were removed.")


def _tell_somebody(files: HomeFiles, clock: Clock) -> None:
    """No sync need run for a failed backup to be told, and nobody reads what cron says."""
    try:
        settings = read_settings(files.settings)
    except UserError as error:
        log.warning("notices: nobody could be told of the backup: %s", error)
        return
    notify_now(files, settings, clock)


def restore(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A backup, or the folder or url of backups: then the newest whole one.",
        ),
    ],
    *,
    test: Annotated[
        bool, typer.Option("--test", help="Of test files, in place of the test files.")
    ] = False,
) -> None:
    """Put a backup in place of what the home holds, which is kept beside it."""
    files = HomeFiles(read_environment().home, test)
    prepare_home(files)
    console = make_console()
    with _Bars(console) as bars:
        done = restore_backup(files, source, SystemClock(), bars.show)
    console.print(
        f"Restored {done.address}, made {clock_time(done.manifest.made_at)}:", soft_wrap=True
    )
    _print_contents(console, done.manifest)
    for path in done.kept:
        console.print(f"What was there before is kept as {path}", soft_wrap=True)


def _print_contents(console: Console, manifest: Manifest) -> None:
    for copied in manifest.copies:
        rows = f", {sum(copied.rows.values()):,} rows" if copied.rows else ""
        sizes = f"{size(copied.bytes_whole)}, {size(copied.bytes_packed)} packed"
        console.print(f"  {copied.role}: {sizes}{rows}, checked")


class _Bars:
    """A bar for each thing that is done, on a terminal only."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description}", justify="right"),
            BarColumn(bar_width=32),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def show(self, doing: str, done: int, total: int) -> None:
        """Move a bar."""
        if doing not in self._tasks:
            self._tasks[doing] = self._bars.add_task(doing, total=total)
        self._bars.update(self._tasks[doing], completed=done, total=total)
