"""Runs data sync for a command line: signals, summary, exit status."""

import asyncio

from furnisync.cli.console import make_console
from furnisync.cli.data_views import make_data_view, print_data_status
from furnisync.cli.run_images import EXIT_INCOMPLETE, tell_terms_once, warn_of_exposed_secrets
from furnisync.cli.signals import run_until_signal
from furnisync.clock import SystemClock
from furnisync.config import HomeFiles, read_environment, read_settings
from furnisync.data.sync import DataRun, DataSync
from furnisync.data_status import DataStatus, read_data_status
from furnisync.ops.notices_watch import Watch
from furnisync.ops.purge_retention import Retention


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
    warn_of_exposed_secrets(environment)
    clock = SystemClock()
    upkeep = Retention(files, settings.data.retention_days, clock).purge_history
    with make_data_view(console) as view, Watch("data", files, settings, clock) as watch:

        def show(status: DataStatus) -> None:
            view.show(status)
            watch.look()

        sync = DataSync(environment, settings, run, clock, show, upkeep)
        stopped, complete = asyncio.run(run_until_signal(sync, watch.expect_end))
    print_data_status(console, read_data_status(files, settings.data, clock), files)
    if stopped:
        console.print("Stopped. The same command goes on from here.")
        return 0
    if not complete:
        console.print("Not every shop could be served; the same command tries the rest again.")
        return EXIT_INCOMPLETE
    return 0
