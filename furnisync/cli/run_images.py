"""Runs image sync for a command line: signals, view, summary, exit status."""

import asyncio

from furnisync.cli.live import make_view
from furnisync.cli.signals import run_until_signal
from furnisync.cli.sync import read_surroundings
from furnisync.cli.tables import print_status
from furnisync.images.sync import ImageRun, ImageSync
from furnisync.status.images import Status, read_status


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
