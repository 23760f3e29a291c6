"""`furnisync service`: the two jobs as services that start by themselves, restart, and log."""

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer
from rich.table import Table

from furnisync.cli.console import make_console, say
from furnisync.cli.logs import LINE, TIME, PlainFormatter
from furnisync.cli.run_data import run_data_sync
from furnisync.cli.run_images import run_image_sync
from furnisync.cli.words import clock_time, duration
from furnisync.collect.shop_source import read_shops
from furnisync.collect.sync import DataRun
from furnisync.config import HomeFiles, read_environment
from furnisync.errors import (
    ConfigError,
    DatabaseOutdated,
    NoRoom,
    NotHere,
    UserError,
    is_disk_full,
)
from furnisync.home import prepare_home
from furnisync.identity import home_is_here
from furnisync.images.sync import ImageRun
from furnisync.ops.service.launchd import Launchd
from furnisync.ops.service.service import (
    JOBS,
    Job,
    Service,
    ServiceState,
    Supervisor,
    Under,
    await_home,
    await_start,
    check_free,
    describe_service,
    last_line,
    log_of,
    mark_home,
)
from furnisync.ops.service.service_log import log_to
from furnisync.ops.service.systemd import Systemd

log = logging.getLogger("furnisync")

SHOPS_EVERY_S = 60.0
"""How often a data service that came before the first shop looks again."""
EXIT_USAGE = 2
EXIT_AGAIN = 1
"""Both systems start a job that ended so anew, after a pause."""

Which = Literal["images", "data", "both"]
WhichJob = Annotated[Which, typer.Argument(metavar="[images|data|both]", help="Which job.")]

service_app = typer.Typer(
    name="service",
    help="Run the syncs as services: they start by themselves, come back after a crash, log.",
    no_args_is_help=True,
)


def find_supervisor() -> Supervisor:
    """The system's supervisor.

    Raises:
        UserError: this system has neither launchd nor a reachable systemd.
    """
    return Launchd() if sys.platform == "darwin" else Systemd()


def _jobs(which: Which) -> tuple[Job, ...]:
    return JOBS if which == "both" else (which,)


@service_app.command()
def install(which: WhichJob = "both") -> None:
    """Install and start: `images --slow` and `data --continuous`, from now on and after a boot."""
    supervisor = find_supervisor()
    prepare_home(HomeFiles(read_environment().home))
    services = [describe_service(job) for job in _jobs(which)]
    for service in services:
        check_free(service, supervisor.state(service.job))
    mark_home(services[0].home)
    for service in services:
        supervisor.install(service)
        state = await_start(supervisor, service.home, service.job)
        say(f"{service.job}: installed and running (pid {state.pid}), log {service.log}")
    for notice in supervisor.notices(services[0]):
        make_console().print(notice, style="yellow", soft_wrap=True)


@service_app.command()
def start(which: WhichJob = "both") -> None:
    """Start what is installed."""
    supervisor = find_supervisor()
    for job in _jobs(which):
        _start(supervisor, job)


def _start(supervisor: Supervisor, job: Job) -> None:
    home, state = _installed(supervisor, job)
    service = Service(job, home, home, Path(sys.executable))
    check_free(service, state)
    supervisor.start(job)
    state = await_start(supervisor, home, job)
    say(f"{job}: running (pid {state.pid})")


def _installed(supervisor: Supervisor, job: Job) -> tuple[Path, ServiceState]:
    """The installed unit's home and state.

    Raises:
        UserError: it is not installed.
    """
    state = supervisor.state(job)
    if state.home is None:
        raise UserError(
            f"The service {job} is not installed: run `furnisync service install {job}`."
        )
    return state.home, state


@service_app.command()
def stop(which: WhichJob = "both") -> None:
    """End cleanly, within some seconds; it starts again at the next boot, or by `start`."""
    supervisor = find_supervisor()
    for job in _jobs(which):
        if which == "both" and not supervisor.state(job).installed:
            say(f"{job}: not installed")
            continue
        _installed(supervisor, job)
        supervisor.stop(job)
        say(f"{job}: stopped; it starts again at the next boot, `uninstall` ends it for good")


@service_app.command()
def restart(which: WhichJob = "both") -> None:
    """End cleanly and start again what runs; after an update or a changed setting."""
    supervisor = find_supervisor()
    running = [job for job in _jobs(which) if supervisor.state(job).running]
    for job in running:  # all, before the first starts: it may migrate what an older one reads
        supervisor.stop(job)
    for job in _jobs(which):
        if job in running:
            _start(supervisor, job)
        else:
            say(f"{job}: does not run as a service")


@service_app.command()
def uninstall(which: WhichJob = "both") -> None:
    """End cleanly and take the units away; data and logs stay."""
    supervisor = find_supervisor()
    for job in _jobs(which):
        supervisor.uninstall(job)
        say(f"{job}: not installed any more")


@service_app.command()
def status(
    which: WhichJob = "both",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
) -> None:
    """Tell whether each service is installed and running, since when, how it last ended."""
    supervisor = find_supervisor()
    states = [supervisor.state(job) for job in _jobs(which)]
    if as_json:
        rows = [{**msgspec.to_builtins(state, enc_hook=str)} for state in states]
        sys.stdout.write(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("service", "state", "last run", "newest line of the log"):
        table.add_column(name, overflow="fold")
    for state in states:
        table.add_row(state.job, _state_words(state), _last_run_words(state), _log_words(state))
    make_console().print(table)


def _state_words(state: ServiceState) -> str:
    if not state.installed:
        return "not installed"
    boot = "" if state.at_boot else ", does not start at boot"
    if state.home is not None and not home_is_here(state.home):
        boot += f", its home {state.home} is not there: mount its disk"
    if not state.running:
        return f"installed, not running{boot}"
    since = "" if state.since is None else f" for {duration(time.time() - state.since)}"
    return f"running{since} (pid {state.pid}){boot}"


def _last_run_words(state: ServiceState) -> str:
    words = [] if state.last_exit is None else [state.last_exit]
    if not state.running and state.since is not None:
        words.append(f"at {clock_time(state.since)}")
    if state.restarts:
        words.append(f"{state.restarts} restarts")
    return ", ".join(words)


def _log_words(state: ServiceState) -> str:
    return "" if state.home is None else last_line(log_of(state.home, state.job)) or ""


@service_app.command()
def logs(
    which: WhichJob = "both",
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="Lines of each log.")] = 50,
) -> None:
    """Show the services' logs."""
    supervisor = find_supervisor()
    homes = [(job, supervisor.state(job).home or read_environment().home) for job in _jobs(which)]
    paths = [path for job, home in homes if (path := log_of(home, job)).exists()]
    if not paths:
        raise UserError(
            f"There is no log in {homes[0][1] / 'logs'} yet: `furnisync service install` starts"
            " the services."
        )
    # `tail` follows the file through its rotation (-F) on both systems.
    how = ["-F"] if follow else []
    command = ["tail", "-n", str(lines), *how, *map(str, paths)]
    try:
        raise typer.Exit(subprocess.run(command, check=False).returncode)  # noqa: S603
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


@service_app.command(hidden=True)
def run(job: Job, *, under: Annotated[Under, typer.Option()] = "systemd") -> None:
    """What the units start: the sync with its own log."""
    # The unit names the home. What does not, a start by hand, reads the settings as ever.
    home = Path(os.environ["FURNISYNC_HOME"]) if "FURNISYNC_HOME" in os.environ else None
    if home is not None:
        await_home(home, log.warning)
    try:
        status = _run_with_log(job, under)
    except Exception as error:
        if home is not None and not home_is_here(home):
            # Whatever met it first: the next start waits for the disk.
            log.error("the home %s is not here any more: mount its disk (%s)", home, error)  # noqa: TRY400
            raise typer.Exit(EXIT_AGAIN) from None
        if not isinstance(error, UserError):
            raise
        log.error("%s", error)  # noqa: TRY400 -- words for the user
        if isinstance(error, NoRoom | NotHere):
            raise typer.Exit(EXIT_AGAIN) from None
        # launchd would try for ever; systemd knows that 2 is not worth another try.
        raise typer.Exit(0 if under == "launchd" else EXIT_USAGE) from None
    raise typer.Exit(status)


def _run_with_log(job: Job, under: Under) -> int:
    home = read_environment().home
    prepare_home(HomeFiles(home))
    path = log_of(home, job)
    try:
        log_to(path, PlainFormatter(LINE, TIME))
    except OSError as error:
        raise (NoRoom if is_disk_full(error) else UserError)(
            f"{path} cannot be written ({error.strerror}): mend that and start the service again."
        ) from error
    if under == "launchd":
        _keep_awake()
    log.info("the %s service starts (pid %d)", job, os.getpid())
    return _run_job(job, home)


def _run_job(job: Job, home: Path) -> int:
    if job == "images":
        return run_image_sync(ImageRun("slow"))
    _await_shops(HomeFiles(home))
    return run_data_sync(DataRun("slow", continuous=True))


def _await_shops(files: HomeFiles) -> None:
    """Wait until image sync has found the first shops: both services start on an empty home.

    Or at once after an update, when image sync has still to renew the catalogue.
    """
    waiting = False
    while True:
        try:
            read_shops(files)
        except (ConfigError, DatabaseOutdated) as error:
            if not waiting:
                log.info("waiting for the first shops: %s", error)
            waiting = True
            time.sleep(SHOPS_EVERY_S)
        else:
            return


def _keep_awake() -> None:
    """Keep the Mac from sleeping for as long as this process lives, and not longer."""
    command = ["caffeinate", "-i", "-w", str(os.getpid())]
    try:
        subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603
    except OSError as error:
        log.warning("the Mac may fall asleep: caffeinate cannot be started (%s)", error)
