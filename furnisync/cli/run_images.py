"""Runs image sync for a command line: signals, view, summary, exit status."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console

from furnisync.cli.console import make_console
from furnisync.cli.signals import run_until_signal
from furnisync.cli.summary import print_status
from furnisync.cli.terms import print_terms
from furnisync.cli.views import make_view
from furnisync.clock import SystemClock
from furnisync.config import Environment, HomeFiles, read_environment, read_settings
from furnisync.images.sync import ImageRun, ImageSync
from furnisync.status import read_status

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
    clock = SystemClock()
    with make_view(console) as view:
        sync = ImageSync(environment, settings, run, clock, view.show)
        stopped, complete = asyncio.run(run_until_signal(sync))
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


def tell_terms_once(console: Console, environment: Environment, made_by_runs: Path) -> None:
    """Say what Etsy asks of its users before the first run with a real key."""
    host = urlsplit(environment.api_url).hostname or ""
    if not made_by_runs.exists() and host.endswith("etsy.com"):
        print_terms(console)
