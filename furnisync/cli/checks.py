"""`furnisync doctor` checks what a sync needs, `furnisync verify` what it has stored."""

import sys
from collections.abc import Iterator
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from furnisync.cli.console import EXIT_INCOMPLETE, JsonFlag, TestFlag, make_console, make_table
from furnisync.cli.live import Bars
from furnisync.cli.services import find_supervisor
from furnisync.clock import Clock, SystemClock
from furnisync.config import Environment, HomeFiles, Settings, read_environment, read_settings
from furnisync.errors import UserError
from furnisync.home import require_home
from furnisync.http.network import read_network
from furnisync.ops.checks import doctor as checks
from furnisync.ops.checks.clock_repair import check_times, repair_home
from furnisync.ops.checks.doctor import Check
from furnisync.ops.checks.doctor_disk import check_file_system, check_home
from furnisync.ops.checks.doctor_online import check_key, check_sleep
from furnisync.ops.checks.verify import Verify, VerifyReport
from furnisync.ops.service.service import TITLES, Supervisor
from furnisync.sanitize import plain

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}
TROUBLES_SHOWN = 20

# -- doctor ----------------------------------------------------------------------------------------


def doctor(
    *,
    as_json: JsonFlag = False,
    repair_clock: Annotated[
        bool,
        typer.Option("--repair-clock", help="First mark and repair what a wrong clock wrote."),
    ] = False,
    test: TestFlag = False,
) -> None:
    """Check key, quota, clock, disk, permissions, versions, locks, databases; say what to do."""
    if repair_clock:
        _repair_clock(as_json=as_json, test=test)
    found = list(_check_all(test=test))
    if as_json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        _print_checks(found)
    raise typer.Exit(EXIT_INCOMPLETE if any(one.verdict == "fail" for one in found) else 0)


def _repair_clock(*, as_json: bool, test: bool) -> None:
    environment = read_environment()
    files = HomeFiles(environment.home, test)
    done = repair_home(environment, files, read_settings(files.settings), SystemClock())
    text = f"{done.shops:,} shops are due again, {done.rows:,} rows of the history are marked"
    if done.catalog:
        text += "; the catalog's times are repaired"
    make_console(stderr=as_json).print(f"{text}.")


def _check_all(*, test: bool) -> Iterator[Check]:
    yield from checks.check_versions()
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
        yield from _check_home(environment, files, settings, clock)
    supervisor = _supervisor()
    yield from checks.check_services(supervisor)
    installed = supervisor is not None and any(supervisor.state(job).installed for job in TITLES)
    if (sleep := check_sleep(sys.platform, services=installed)) is not None:
        yield sleep


def _check_home(
    environment: Environment, files: HomeFiles, settings: Settings, clock: Clock
) -> Iterator[Check]:
    yield from check_file_system(files)
    yield checks.check_quota(files, environment, clock)
    yield from checks.check_image_folder(files, clock)
    yield checks.check_disk(files, settings, clock)
    yield checks.check_plan(files)
    yield from checks.check_extras(settings)
    yield from checks.check_permissions(environment, files, settings)
    yield from checks.check_databases(files)
    yield from check_times(files, settings, clock)
    yield from checks.check_locks(files, clock)


def _supervisor() -> Supervisor | None:
    try:
        return find_supervisor()
    except UserError:
        return None


def _print_checks(found: list[Check]) -> None:
    console = make_console()
    table = make_table("verdict", "name", "message")
    table.show_header = False
    for one in found:
        text = Text(plain(one.message))
        if one.remedy:
            text.append(f"\n{plain(one.remedy)}", style=None if one.verdict == "ok" else "bold")
        table.add_row(Text(one.verdict, style=STYLES[one.verdict]), one.name, text)
    console.print(table)
    failed = sum(one.verdict == "fail" for one in found)
    warned = sum(one.verdict == "warn" for one in found)
    console.print(f"{failed} failed, {warned} with a warning, {len(found)} checks in all.")


# -- verify ----------------------------------------------------------------------------------------


def verify(
    *,
    sha256: Annotated[
        bool, typer.Option("--sha256", help="Read every file and compare its sha256.")
    ] = False,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Queue what is missing, truncated or changed for download."),
    ] = False,
    accept_folder: Annotated[
        bool,
        typer.Option(
            "--accept-folder",
            help="With --repair: the image folder is lost for good, use it as it is now.",
        ),
    ] = False,
    as_json: JsonFlag = False,
    test: TestFlag = False,
) -> None:
    """Compare image files, catalog and history; a sync may run at the same time."""
    files = HomeFiles(read_environment().home, test)
    require_home(files)
    console = make_console(stderr=as_json)
    with Bars(console) as bars:
        report = Verify(
            files,
            SystemClock(),
            bars,
            sha256=sha256,
            repair=repair,
            accept_folder=accept_folder,
        ).run()
    if as_json:
        sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    else:
        _print_report(console, report, repair=repair)
    raise typer.Exit(EXIT_INCOMPLETE if report.wrong else 0)


def _print_report(console: Console, report: VerifyReport, *, repair: bool) -> None:
    if report.troubles:
        table = make_table("what", "file", "detail")
        for one in report.troubles[:TROUBLES_SHOWN]:
            file = one.file or f"listing {one.listing_id}, image {one.image_id}"
            table.add_row(one.kind, file, one.detail)
        console.print(table)
        more = sum(report.numbers.values()) - TROUBLES_SHOWN
        if more > 0:
            console.print(f"... and {more:,} more (--json names the first thousand)")
    for trouble in report.rows:
        ids = ", ".join(map(str, trouble.examples))
        examples = f" ({ids})" if ids else ""
        console.print(f"{trouble.database}: {trouble.number:,} {trouble.words}{examples}")
    style = "bold yellow" if report.wrong else "green"
    console.print(_summary(report, repair=repair), style=style)


def _summary(report: VerifyReport, *, repair: bool) -> str:
    text = f"{report.images:,} images and {report.files:,} files checked"
    numbers = [f"{number:,} {kind}" for kind, number in report.numbers.items()]
    text += f": {', '.join(numbers)}" if numbers else ", all correct"
    if report.repaired:
        text += f"; the next run of image sync downloads {report.repaired:,} again"
    if report.wrong and not repair:
        text += "; stop image sync and add --repair to download them again"
    return text + "."
