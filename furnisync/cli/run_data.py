"""Runs data sync for a command line: signals, summary, exit status."""

import asyncio

from furnisync.cli.console import make_console
from furnisync.cli.data_views import make_data_view, print_data_status
from furnisync.cli.run_images import EXIT_INCOMPLETE, tell_terms_once
from furnisync.cli.signals import run_until_signal
from furnisync.clock import SystemClock
from furnisync.config import HomeFiles, read_environment, read_settings
from furnisync.data.sync import DataRun, DataSync
from furnisync.data_status import read_data_status


def run_data_sync(run: DataRun) -> int:
    """Run to the end.

    Returns:
        exit status: 0 all that was due is served or a signal stopped it, 1 something waits.

    Raises:
        UserError: wrong input or surroundings.
    """
    environment = read_environment()
    files = HomeFiles(environment.home, run.test)
    settings = read_settings(files.settings)
    environment.require_key()
    console = make_console()
    tell_terms_once(console, environment, files.history)
    clock = SystemClock()
    with make_data_view(console) as view:
        sync = DataSync(environment, settings, run, clock, view.show)
        stopped, complete = asyncio.run(run_until_signal(sync))
    print_data_status(console, read_data_status(files, settings.data, clock), files)
    if stopped:
        console.print("Stopped. The same command goes on from here.")
        return 0
    if not complete:
        console.print("Not every shop could be served; the same command tries the rest again.")
        return EXIT_INCOMPLETE
    return 0
