"""`furnisync doctor`: everything that a sync needs, looked at, with what to do."""

import sys
from collections.abc import Iterator

import msgspec
from rich.table import Table
from rich.text import Text

from furnisync.cli.console import make_console
from furnisync.cli.service_commands import find_supervisor
from furnisync.clock import SystemClock
from furnisync.config import HomeFiles, read_environment, read_settings
from furnisync.errors import UserError
from furnisync.ops import doctor
from furnisync.ops.doctor import Check
from furnisync.ops.doctor_asks import check_key, check_sleep
from furnisync.ops.service import TITLES, Supervisor
from furnisync.plain import plain

EXIT_FAIL = 1
STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def run_doctor(*, as_json: bool, test: bool) -> int:
    """Look at everything and say what to do.

    Returns:
        exit status: 1 where something fails, else 0.
    """
    checks = list(_examine(test=test))
    if as_json:
        sys.stdout.write(msgspec.json.encode(checks).decode() + "\n")
    else:
        _print(checks)
    return EXIT_FAIL if any(one.verdict == "fail" for one in checks) else 0


def _examine(*, test: bool) -> Iterator[Check]:
    yield from doctor.check_versions()
    try:
        environment = read_environment()
        files = HomeFiles(environment.home, test)
        settings = read_settings(files.settings)
    except (UserError, OSError) as error:
        yield Check("settings", "fail", "cannot be read", str(error))
        return
    clock = SystemClock()
    yield Check("home", "ok", f"{environment.home} can be written")
    try:
        yield from check_key(environment, files, settings, clock)
    except UserError as error:
        yield Check("key", "fail", "could not be tried", str(error))
    yield doctor.check_quota(files, environment, clock)
    yield from doctor.check_image_folder(files, clock)
    yield doctor.check_disk(files, settings, clock)
    yield from doctor.check_permissions(environment, files, settings)
    yield from doctor.check_databases(files)
    yield from doctor.check_locks(files, clock)
    supervisor = _supervisor()
    yield from doctor.check_services(supervisor)
    installed = supervisor is not None and any(supervisor.state(job).installed for job in TITLES)
    if (sleep := check_sleep(sys.platform, services=installed)) is not None:
        yield sleep


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
