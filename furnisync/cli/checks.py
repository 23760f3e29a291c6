"""`furnisync doctor`: everything that a sync needs, looked at, with what to do."""

import sys
from collections.abc import Iterator
from typing import Annotated

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from furnisync.cli.console import make_console
from furnisync.cli.options import TestFlag
from furnisync.cli.services import find_supervisor
from furnisync.clock import Clock, SystemClock
from furnisync.config import Environment, HomeFiles, Settings, read_environment, read_settings
from furnisync.errors import UserError
from furnisync.http.network import read_network
from furnisync.ops.checks import doctor as examine
from furnisync.ops.checks.clock_repair import check_times, repair_home
from furnisync.ops.checks.doctor import Check
from furnisync.ops.checks.doctor_disk import check_file_system, check_home
from furnisync.ops.checks.doctor_online import check_key, check_sleep
from furnisync.ops.service.service import TITLES, Supervisor
from furnisync.sanitize import plain

EXIT_FAIL = 1
STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
    repair_clock: Annotated[
        bool,
        typer.Option("--repair-clock", help="First mark and repair what a wrong clock wrote."),
    ] = False,
    test: TestFlag = False,
) -> None:
    """Look at key, quota, clock, disk, permissions, versions, locks, databases; say what to do."""
    raise typer.Exit(run_doctor(as_json=as_json, test=test, repair_clock=repair_clock))


def run_doctor(*, as_json: bool, test: bool, repair_clock: bool) -> int:
    """Look at everything and say what to do; first repair what a wrong clock wrote, if asked to.

    Returns:
        exit status: 1 where something fails, else 0.

    Raises:
        ConfigError: the environment names a proxy or certificates that cannot be used.
        UserError: the repair could not be done.
    """
    if repair_clock:
        _repair_clock(as_json=as_json, test=test)
    checks = list(_examine(test=test))
    if as_json:
        sys.stdout.write(msgspec.json.encode(checks).decode() + "\n")
    else:
        _print(checks)
    return EXIT_FAIL if any(one.verdict == "fail" for one in checks) else 0


def _repair_clock(*, as_json: bool, test: bool) -> None:
    environment = read_environment()
    files = HomeFiles(environment.home, test)
    done = repair_home(environment, files, read_settings(files.settings), SystemClock())
    words = f"{done.shops:,} shops are due again, {done.rows:,} rows of the history are marked"
    if done.catalog:
        words += "; the catalogue's times are repaired"
    make_console(stderr=as_json).print(f"{words}.")


def _examine(*, test: bool) -> Iterator[Check]:
    yield from examine.check_versions()
    try:
        environment = read_environment()
        files = HomeFiles(environment.home, test)
        settings = read_settings(files.settings)
    except (UserError, OSError) as error:
        yield Check("settings", "fail", "cannot be read", str(error))
        return
    clock = SystemClock()
    yield check_home(files)
    yield Check("network", "ok", read_network(environment.network).describe())
    try:
        yield from check_key(environment, files, settings, clock)
    except UserError as error:
        yield Check("key", "fail", "could not be tried", str(error))
    if environment.home.is_dir():
        yield from _examine_home(environment, files, settings, clock)
    supervisor = _supervisor()
    yield from examine.check_services(supervisor)
    installed = supervisor is not None and any(supervisor.state(job).installed for job in TITLES)
    if (sleep := check_sleep(sys.platform, services=installed)) is not None:
        yield sleep


def _examine_home(
    environment: Environment, files: HomeFiles, settings: Settings, clock: Clock
) -> Iterator[Check]:
    yield from check_file_system(files)
    yield examine.check_quota(files, environment, clock)
    yield from examine.check_image_folder(files, clock)
    yield examine.check_disk(files, settings, clock)
    yield from examine.check_extras(settings)
    yield from examine.check_permissions(environment, files, settings)
    yield from examine.check_databases(files)
    yield from check_times(files, settings, clock)
    yield from examine.check_locks(files, clock)


def _supervisor() -> Supervisor | None:
    try:
        return find_supervisor()
    except UserError:
        return None


def _print(checks: list[Check]) -> None:
    console = make_console()
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in checks:
        words = Text(plain(one.message))
        if one.remedy:
            words.append(f"\n{plain(one.remedy)}", style=None if one.verdict == "ok" else "bold")
        table.add_row(Text(one.verdict, style=STYLES[one.verdict]), one.name, words)
    console.print(table)
    failed = sum(one.verdict == "fail" for one in checks)
    warned = sum(one.verdict == "warn" for one in checks)
    console.print(f"{failed} to mend, {warned} to look at, {len(checks)} checks in all.")
