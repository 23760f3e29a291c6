"""`furnisync images` and `furnisync data`: settings, signals, progress, exit status."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Literal, NoReturn, Protocol, TypeVar
from urllib.parse import urlsplit

import typer
from rich.console import Console

from furnisync.cli.console import EXIT_INCOMPLETE, TestFlag, make_console
from furnisync.cli.live import Bars, Frame, frame_data, frame_images
from furnisync.cli.status import print_data_status, print_status
from furnisync.clock import Clock, SystemClock
from furnisync.collect.sync import DataRun, DataSync
from furnisync.config import (
    Environment,
    HomeFiles,
    Mode,
    Settings,
    exposed_secrets,
    read_environment,
    read_settings,
)
from furnisync.crawl.discovery import Scope
from furnisync.home import prepare_home
from furnisync.http.network import export_network
from furnisync.images.ids_file import read_ids
from furnisync.images.sync import ImageRun, ImageSync
from furnisync.ops.notify.heartbeat import Watch
from furnisync.ops.purge.retention import Retention
from furnisync.status.history import read_data_status
from furnisync.status.images import read_status

log = logging.getLogger("furnisync")

EXIT_INTERRUPTED = 130
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

TERMS = """\
Before you collect: what Etsy's API Terms of Use ask of you (version of June 2025, as quoted by \
several sources; read the current ones on etsy.com/legal/api).
- Collecting Etsy content for analytics, machine learning, training of models or licensing needs \
Etsy's written permission: ask developer@etsy.com.
- Listing content that you display must be no older than 6 hours, other content 24 hours; store \
nothing longer than necessary and no member data beyond need.
- One key for each application.
The term 'Etsy' is a trademark of Etsy, Inc. This application uses the Etsy API but is not \
endorsed or certified by Etsy, Inc."""

# -- commands --------------------------------------------------------------------------------------


def images(
    ids_file: Annotated[
        Path | None,
        typer.Argument(
            metavar="ids.txt",
            help="Sync only the listings of this file, one id or URL on each line.",
        ),
    ] = None,
    *,
    slow: Annotated[
        bool, typer.Option("--slow", help="About one call a second, without end (the default).")
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
    mode = _mode(slow=slow, fast=fast)
    ids = None
    if ids_file is not None:
        found = read_ids(ids_file)
        if complaint := found.complaint(ids_file):
            make_console(stderr=True).print(f"{complaint}; the rest is done.", style="yellow")
        ids = found.ids
    scope = Scope(limit=limit, ids=ids, every_shop=every_shop)
    raise typer.Exit(run_image_sync(ImageRun(mode, scope, reset_shops, test)))


def data(
    *,
    slow: Annotated[
        bool, typer.Option("--slow", help="About one call a second, until no shop is due.")
    ] = False,
    fast: Annotated[
        bool, typer.Option("--fast", help="As fast as the key allows, until no shop is due.")
    ] = False,
    continuous: Annotated[
        bool, typer.Option("--continuous", help="Slow, without end: sync what becomes due.")
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
    mode = _mode(slow=slow, fast=fast)
    raise typer.Exit(run_data_sync(DataRun(mode, continuous, top, furniture_only, test)))


def _mode(*, slow: bool, fast: bool) -> Mode:
    if slow and fast:
        raise typer.BadParameter("--slow and --fast exclude each other.")
    return "fast" if fast else "slow"


# -- runs ------------------------------------------------------------------------------------------


def run_image_sync(run: ImageRun) -> int:
    """Run image sync to its end.

    Returns:
        exit status: 0 all done or stopped by a signal, 1 something could not be read and waits.

    Raises:
        UserError: wrong input or surroundings.
    """
    around = _read_surroundings("images", test=run.test)
    upkeep = around.retention().purge_catalog
    ended = around.run(
        lambda show: ImageSync(
            around.environment, around.settings, run, around.clock, show, upkeep
        ),
        frame_images,
    )
    status = read_status(around.files, around.clock)
    print_status(around.console, status, around.clock.now())
    return around.report_end(
        ended,
        "Not everything could be read: see above. The same command tries the rest again.",
    )


def run_data_sync(run: DataRun) -> int:
    """Run data sync to its end.

    Returns:
        exit status: 0 all that was due is synced or a signal stopped it, 1 something waits.

    Raises:
        UserError: wrong input or surroundings.
    """
    around = _read_surroundings("data", test=run.test)
    upkeep = around.retention().purge_history
    ended = around.run(
        lambda show: DataSync(around.environment, around.settings, run, around.clock, show, upkeep),
        frame_data,
    )
    status = read_data_status(around.files, around.settings.data, around.clock)
    print_data_status(around.console, status)
    return around.report_end(
        ended, "Not every shop could be synced; the same command tries the rest again."
    )


class _Sync(Protocol):
    """A sync as a run sees it."""

    def stop(self) -> None:
        """Finish what is in flight and end."""
        ...

    async def run(self) -> bool:
        """Run to the end; whether all was done."""
        ...


_Status = TypeVar("_Status")
_End = Literal["stopped", "complete", "incomplete"]


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """Where a sync runs."""

    program: Literal["images", "data"]
    environment: Environment
    files: HomeFiles
    settings: Settings
    console: Console
    clock: Clock

    def retention(self) -> Retention:
        """What the run purges by itself."""
        return Retention(self.files, self.settings.data.retention_days)

    def run(
        self,
        make_sync: Callable[[Callable[[_Status], None]], _Sync],
        frame_of: Callable[[_Status], Frame],
    ) -> _End:
        """Run a sync with progress and notices until it ends or a signal stops it.

        Args:
            make_sync: makes the sync; its argument takes each new status.
            frame_of: what progress shows of a status.
        """
        watch = Watch(self.program, self.files, self.settings, self.clock)
        try:
            with Bars(self.console) as bars, watch:

                def show(status: _Status) -> None:
                    bars.show_frame(frame_of(status))
                    watch.look()

                return asyncio.run(_run_until_signal(make_sync(show), watch.expect_end))
        finally:
            # All is done: a late signal changes neither the words nor the exit status.
            for number in STOP_SIGNALS:
                signal.signal(number, signal.SIG_IGN)

    def report_end(self, ended: _End, incomplete: str) -> int:
        """Say how the run ended, `incomplete` where it is not; returns the exit status."""
        if ended == "stopped":
            self.console.print("Stopped. The same command continues from here.")
        if ended == "incomplete":
            self.console.print(incomplete, style="bold yellow")
            return EXIT_INCOMPLETE
        return 0


def _read_surroundings(program: Literal["images", "data"], *, test: bool) -> _Surroundings:
    """Read environment and settings; warn of what a user should know before the first call.

    Raises:
        UserError: wrong settings, no key, or a home that cannot be written.
    """
    environment = read_environment()
    files = HomeFiles(environment.home, test)
    prepare_home(files)
    settings = read_settings(files.settings)
    environment.require_key()
    export_network(environment.network)
    console = make_console()
    first = not (files.catalog if program == "images" else files.history).exists()
    if first and (urlsplit(environment.api_url).hostname or "").endswith("etsy.com"):
        console.print(f"{TERMS}\n", style="yellow", highlight=False)
    for path in exposed_secrets(environment.home):
        log.warning("%s can be read by others on this machine: run `chmod 600 %s`", path, path)
    return _Surroundings(program, environment, files, settings, console, SystemClock())


def _end_at_once() -> NoReturn:
    try:
        sys.stdout.flush()
    finally:
        os._exit(EXIT_INTERRUPTED)


async def _run_until_signal(sync: _Sync, on_stop: Callable[[], None]) -> _End:
    """Run a sync; the first signal lets it finish what is in flight, the second ends at once.

    Args:
        sync: what runs.
        on_stop: called once, at the first signal, before anything else can happen.
    """
    stopped = False

    def on_signal() -> None:
        nonlocal stopped
        if stopped:
            _end_at_once()
        stopped = True
        on_stop()
        sync.stop()

    loop = asyncio.get_running_loop()

    def handle(_number: int, _frame: FrameType | None) -> None:
        if loop.is_closed():  # the last notice is being sent
            _end_at_once()
        loop.call_soon_threadsafe(on_signal)

    for number in STOP_SIGNALS:  # a handler of the loop's would end with it, and leave the default
        signal.signal(number, handle)
    complete = await sync.run()
    if stopped:
        return "stopped"
    return "complete" if complete else "incomplete"
