"""`furnisync service`: the two syncs as services that start at boot, restart, and log."""

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

from furnisync.cli.console import (
    EXIT_USAGE,
    LINE,
    TIME,
    JsonFlag,
    PlainFormatter,
    clock_time,
    make_console,
    make_table,
    say,
)
from furnisync.collect.shop_source import read_shops
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
from furnisync.status.eta import duration

log = logging.getLogger("furnisync")

SHOPS_EVERY_S = 60.0
"""A data service that has no shop yet checks again after this."""
EXIT_AGAIN = 1
"""Both systems start a service with this status again after a pause."""

Which = Literal["images", "data", "both"]
JobArgument = Annotated[Which, typer.Argument(metavar="[images|data|both]", help="Which service.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Continue as lines are written.")]
Lines = Annotated[int, typer.Option("--lines", "-n", min=1, help="Lines of each log.")]

service_app = typer.Typer(
    name="service",
    help="Run the syncs as services: they start at boot, restart after a crash, and log.",
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
def install(which: JobArgument = "both") -> None:
    """Install the services and start them, now and after each boot.

    They run `furnisync images --slow` and `furnisync data --continuous`.
    """
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
def start(which: JobArgument = "both") -> None:
    """Start the installed services."""
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
def stop(which: JobArgument = "both") -> None:
    """Stop cleanly within seconds; the next boot starts them again."""
    supervisor = find_supervisor()
    for job in _jobs(which):
        if which == "both" and not supervisor.state(job).installed:
            say(f"{job}: not installed")
            continue
        _installed(supervisor, job)
        supervisor.stop(job)
        say(f"{job}: stopped; it starts again at the next boot, `uninstall` removes it")


@service_app.command()
def restart(which: JobArgument = "both") -> None:
    """Restart what runs, after an update or changed settings."""
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
def uninstall(which: JobArgument = "both") -> None:
    """Stop cleanly and remove the services; data and logs stay."""
    supervisor = find_supervisor()
    for job in _jobs(which):
        supervisor.uninstall(job)
        say(f"{job}: uninstalled")


@service_app.command()
def status(which: JobArgument = "both", *, as_json: JsonFlag = False) -> None:
    """Show whether each service runs, since when, how it last ended."""
    supervisor = find_supervisor()
    states = [supervisor.state(job) for job in _jobs(which)]
    if as_json:
        rows = msgspec.to_builtins(states, enc_hook=str)
        sys.stdout.write(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
        return
    table = make_table("service", "state", "last run", "last line of the log")
    for state in states:
        line = None if state.home is None else last_line(log_of(state.home, state.job))
        table.add_row(state.job, _state_text(state), _last_run_text(state), line)
    make_console().print(table)


def _state_text(state: ServiceState) -> str:
    if not state.installed:
        return "not installed"
    boot = "" if state.at_boot else ", does not start at boot"
    if state.home is not None and not home_is_here(state.home):
        boot += f", its home {state.home} is missing: mount its disk"
    if not state.running:
        return f"installed, not running{boot}"
    since = "" if state.since is None else f" for {duration(time.time() - state.since)}"
    return f"running{since} (pid {state.pid}){boot}"


def _last_run_text(state: ServiceState) -> str:
    parts = [] if state.last_exit is None else [state.last_exit]
    if not state.running and state.since is not None:
        parts.append(f"at {clock_time(state.since)}")
    if state.restarts:
        parts.append(f"{state.restarts} restarts")
    return ", ".join(parts)


@service_app.command()
def logs(which: JobArgument = "both", *, follow: Follow = False, lines: Lines = 50) -> None:
    """Show the services' logs."""
    homes = [_home_of(job) for job in _jobs(which)]
    paths = [
        path
        for job, home in zip(_jobs(which), homes, strict=True)
        if (path := log_of(home, job)).exists()
    ]
    if not paths:
        raise UserError(
            f"There is no log in {homes[0] / 'logs'} yet: `furnisync service install` starts"
            " the services."
        )
    # `tail` follows the file through its rotation (-F) on both systems.
    how = ["-F"] if follow else []
    command = ["tail", "-n", str(lines), *how, *map(str, paths)]
    try:
        raise typer.Exit(subprocess.run(command, check=False).returncode)  # noqa: S603 -- no shell
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _home_of(job: Job) -> Path:
    """The home of a service; this one where no supervisor runs here, as in a copy of a home."""
    try:
        installed = find_supervisor().state(job).home
    except UserError:
        installed = None
    return installed or read_environment().home


@service_app.command(hidden=True)
def run(job: Job, *, under: Annotated[Under, typer.Option()] = "systemd") -> None:
    """Run a sync with its own log, as systemd or launchd starts it."""
    # The unit names the home. A start by hand reads the settings as every command does.
    home = Path(os.environ["FURNISYNC_HOME"]) if "FURNISYNC_HOME" in os.environ else None
    if home is not None:
        await_home(home, log.warning)
    try:
        status = _run_with_log(job, under)
    except Exception as error:
        if home is not None and not home_is_here(home):
            # Whichever error came first: the next start waits for the disk.
            log.error(  # noqa: TRY400 -- a message for the user
                "the home %s is not here any more: mount its disk (%s)", home, error
            )
            raise typer.Exit(EXIT_AGAIN) from None
        if not isinstance(error, UserError):
            raise
        log.error("%s", error)  # noqa: TRY400 -- a message for the user
        if isinstance(error, NoRoom | NotHere):
            raise typer.Exit(EXIT_AGAIN) from None
        # launchd would try again without end; systemd does not restart after status 2.
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
            f"{path} cannot be written ({error.strerror}): correct its permissions or free"
            " some disk, then start the service again."
        ) from error
    if under == "launchd":
        _keep_awake()
    log.info("the %s service starts (pid %d)", job, os.getpid())
    return _run_job(job, home)


def _run_job(job: Job, home: Path) -> int:
    # Commands that only look at services or stop them do not wait for these.
    from furnisync.cli.sync import run_data_sync, run_image_sync  # noqa: PLC0415 -- see above
    from furnisync.collect.sync import DataRun  # noqa: PLC0415 -- the same
    from furnisync.images.sync import ImageRun  # noqa: PLC0415 -- the same

    if job == "images":
        return run_image_sync(ImageRun("slow"))
    _await_shops(HomeFiles(home))
    return run_data_sync(DataRun("slow", continuous=True))


def _await_shops(files: HomeFiles) -> None:
    """Wait until image sync has found the first shops, as both services start on an empty home.

    After an update it waits until image sync has migrated the catalog.
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
    """Keep the Mac awake while this process lives."""
    command = ["caffeinate", "-i", "-w", str(os.getpid())]
    try:
        subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 -- no shell
    except OSError as error:
        log.warning("the Mac may fall asleep: caffeinate cannot be started (%s)", error)
