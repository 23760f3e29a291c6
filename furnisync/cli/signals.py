"""Signals of a running sync: the first finishes what is in flight, the second ends at once."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Protocol

EXIT_INTERRUPTED = 130


class Stoppable(Protocol):
    """A sync as signals see it."""

    def stop(self) -> None:
        """Finish what is in flight and end."""
        ...

    async def run(self) -> bool:
        """Run to the end; whether all was done."""
        ...


async def run_until_signal(sync: Stoppable, on_stop: Callable[[], None]) -> tuple[bool, bool]:
    """Run a sync.

    Args:
        sync: what runs.
        on_stop: called once, at the first signal, before anything else can happen.

    Returns:
        (whether a signal stopped it, whether all was done).
    """
    stopped = False

    def on_signal() -> None:
        nonlocal stopped
        if stopped:
            sys.stdout.flush()
            os._exit(EXIT_INTERRUPTED)
        stopped = True
        on_stop()
        sync.stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    complete = await sync.run()
    return stopped, complete
