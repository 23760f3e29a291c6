"""Runs image sync for a command line: signals, view, summary, exit status."""

import asyncio
import logging
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console

from furnisync.cli.console import make_console
from furnisync.cli.signals import run_until_signal
from furnisync.cli.summary import print_status
from furnisync.cli.terms import print_terms
from furnisync.cli.views import make_view
from furnisync.clock import SystemClock
from furnisync.config import (
    Environment,
    HomeFiles,
    exposed_secrets,
    read_environment,
    read_settings,
)
from furnisync.images.sync import ImageRun, ImageSync
from furnisync.ops.notices_watch import Watch
from furnisync.ops.purge_retention import Retention
from furnisync.status import Status, read_status

log = logging.getLogger("furnisync")

EXIT_INCOMPLETE = 1


def run_image_sync(run: ImageRun) -> int:
    """Run to the end.

    Returns:
        exit status: 0 all done or stopped by a signal, 1 something could not be read and waits.

    Raises:
        UserError: wrong input or surroundings.
    """
    environment = read_environment()
    files = HomeFiles(environment.home, run.test)
    settings = read_settings(files.settings)
    environment.require_key()
    console = make_console()
    tell_terms_once(console, environment, files.catalog)
    warn_of_exposed_secrets(environment)
    clock = SystemClock()
    upkeep = Retention(files, settings.data.retention_days, clock).purge_catalog
    with make_view(console) as view, Watch("images", files, settings, clock) as watch:

        def show(status: Status) -> None:
            view.show(status)
            watch.look()

        sync = ImageSync(environment, settings, run, clock, show, upkeep)
        stopped, complete = asyncio.run(run_until_signal(sync, watch.expect_end))
    print_status(console, read_status(files, clock), files)
    if stopped:
        console.print("Stopped. The same command goes on from here.")
        return 0
    if not complete:
        console.print(
            "Not everything could be read: see above. The same command tries the rest again.",
            style="bold yellow",
        )
        return EXIT_INCOMPLETE
    return 0


def warn_of_exposed_secrets(environment: Environment) -> None:
    """Say so where others on this machine can read the key."""
    for path in exposed_secrets(environment.home):
        log.warning("%s can be read by others on this machine: run `chmod 600 %s`", path, path)


def tell_terms_once(console: Console, environment: Environment, made_by_runs: Path) -> None:
    """Say what Etsy asks of its users before the first run with a real key."""
    host = urlsplit(environment.api_url).hostname or ""
    if not made_by_runs.exists() and host.endswith("etsy.com"):
        print_terms(console)
