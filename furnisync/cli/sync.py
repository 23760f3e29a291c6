"""What a run of either sync needs of a command line, before it begins and when it has ended."""

import logging
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from rich.console import Console

from furnisync.cli.console import make_console
from furnisync.cli.terms import print_terms
from furnisync.clock import Clock, SystemClock
from furnisync.config import (
    Environment,
    HomeFiles,
    Settings,
    exposed_secrets,
    read_environment,
    read_settings,
)
from furnisync.home import prepare_home
from furnisync.ops.notify.heartbeat import Watch
from furnisync.ops.purge.retention import Retention

log = logging.getLogger("furnisync")

EXIT_INCOMPLETE = 1


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a sync runs."""

    program: Literal["images", "data"]
    environment: Environment
    files: HomeFiles
    settings: Settings
    console: Console
    clock: Clock

    def watch(self) -> Watch:
        """The watch over the run, for notices."""
        return Watch(self.program, self.files, self.settings, self.clock)

    def retention(self) -> Retention:
        """What the run purges by itself."""
        return Retention(self.files, self.settings.data.retention_days)

    def end(self, *, stopped: bool, complete: bool, otherwise: str) -> int:
        """Say how the run ended, `otherwise` where it is not complete; returns the exit status."""
        if stopped:
            self.console.print("Stopped. The same command goes on from here.")
            return 0
        if not complete:
            self.console.print(otherwise, style="bold yellow")
            return EXIT_INCOMPLETE
        return 0


def read_surroundings(program: Literal["images", "data"], *, test: bool) -> Surroundings:
    """Read environment and settings; warn of what a user should know before the first call.

    Raises:
        UserError: wrong settings, no key, or a home that cannot be written.
    """
    environment = read_environment()
    files = HomeFiles(environment.home, test)
    prepare_home(files)
    settings = read_settings(files.settings)
    environment.require_key()
    console = make_console()
    first = not (files.catalog if program == "images" else files.history).exists()
    if first and (urlsplit(environment.api_url).hostname or "").endswith("etsy.com"):
        print_terms(console)
    for path in exposed_secrets(environment.home):
        log.warning("%s can be read by others on this machine: run `chmod 600 %s`", path, path)
    return Surroundings(program, environment, files, settings, console, SystemClock())
