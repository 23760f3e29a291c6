"""Runs image sync for a command line: signals, view, summary, exit status."""

import asyncio
import os
import signal
import sys
from urllib.parse import urlsplit

from rich.console import Console

from furnisync.cli.summary import print_status
from furnisync.cli.terms import print_terms
from furnisync.cli.views import make_view
from furnisync.clock import SystemClock
from furnisync.config import HomeFiles, read_environment, read_settings
from furnisync.images.sync import ImageRun, ImageSync
from furnisync.status import read_status

EXIT_INCOMPLETE = 1
EXIT_INTERRUPTED = 130


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
    console = Console()
    if not files.catalog.exists() and (urlsplit(environment.api_url).hostname or "").endswith(
        "etsy.com"
    ):
        print_terms(console)
    clock = SystemClock()
    with make_view(console) as view:
        sync = ImageSync(environment, settings, run, clock, view.show)
        stopped, complete = asyncio.run(_run_until_signal(sync))
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


async def _run_until_signal(sync: ImageSync) -> tuple[bool, bool]:
    """Run; the first signal drains, the second ends at once. Returns (stopped, complete)."""
    stopped = False

    def on_signal() -> None:
        nonlocal stopped
        if stopped:
            sys.stdout.flush()
            os._exit(EXIT_INTERRUPTED)
        stopped = True
        sync.stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    complete = await sync.run()
    return stopped, complete
