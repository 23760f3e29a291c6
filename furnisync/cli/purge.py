"""`furnisync purge`: delete data for good, by age, listing, shop or buyer."""

import sys
from typing import Annotated

import typer
from rich.console import Console

from furnisync.cli.console import TestFlag, make_console, make_table
from furnisync.clock import SystemClock
from furnisync.config import HomeFiles, read_environment, read_settings
from furnisync.errors import ConfigError
from furnisync.home import require_home
from furnisync.ops.purge.purge import By, Gone, Purge, count_home, purge_home

MAX_DAYS = 36_500
MAX_ID = 2**63 - 1
"""The largest integer of a database."""


def purge(
    *,
    older_than: Annotated[
        float | None,
        typer.Option(
            "--older-than", metavar="DAYS", help="Data that is older than DAYS (above 0)."
        ),
    ] = None,
    listing: Annotated[
        int | None,
        typer.Option("--listing", min=1, max=MAX_ID, metavar="ID", help="All data of a listing."),
    ] = None,
    shop: Annotated[
        int | None,
        typer.Option("--shop", min=1, max=MAX_ID, metavar="ID", help="All data of a shop."),
    ] = None,
    buyer: Annotated[
        int | None,
        typer.Option("--buyer", min=1, max=MAX_ID, metavar="ID", help="All reviews of a buyer."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count what would be deleted.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask; required without a terminal.")
    ] = False,
    test: TestFlag = False,
) -> None:
    """Delete data from history, catalog and image folder for good; no sync brings it back.

    On a terminal it shows what would be deleted and asks first.
    """
    choice = choose(older_than, listing, shop, buyer)
    run_purge(choice, dry_run=dry_run, yes=yes, test=test)


def run_purge(purge: Purge, *, dry_run: bool, yes: bool, test: bool) -> None:
    """Purge and print how many rows and files of which kind were deleted.

    Args:
        purge: what to delete.
        dry_run: only count.
        yes: do not ask.
        test: in the test files.

    Raises:
        UserError: there is no terminal to ask on, a sync runs, a database cannot be used.
    """
    if not (dry_run or yes or _can_ask()):
        raise ConfigError(
            "purge deletes for good and cannot ask without a terminal: look with --dry-run at what"
            " it would delete, then run it with --yes."
        )
    files = HomeFiles(read_environment().home, test)
    require_home(files)
    settings = read_settings(files.settings).data
    console = make_console()
    if dry_run:
        _show(console, count_home(files, SystemClock(), purge), "would be deleted")
        return

    def ask(counted: list[Gone]) -> bool:
        _show(console, counted, "would be deleted")
        return typer.confirm("Delete this for good?")

    gone = purge_home(files, settings, SystemClock(), purge, None if yes else ask)
    if gone is None:
        console.print("Nothing was deleted.")
        return
    _show(console, gone, "deleted")
    lasting = "" if purge.by == "age" else " No sync or import brings it back."
    console.print(f"Older backups still hold it until they are removed too.{lasting}")


def choose(
    older_than: float | None, listing: int | None, shop: int | None, buyer: int | None
) -> Purge:
    """What the options ask for.

    Raises:
        ConfigError: not exactly one option, or an age in days that is out of range.
    """
    choices: tuple[tuple[By, float | None], ...] = (
        ("age", older_than),
        ("listing", listing),
        ("shop", shop),
        ("buyer", buyer),
    )
    given = [Purge(by, value) for by, value in choices if value is not None]
    if len(given) != 1:
        raise ConfigError(
            "purge takes exactly one of --older-than DAYS, --listing ID, --shop ID, --buyer ID."
        )
    if older_than == 0:
        raise ConfigError(
            "--older-than 0 would delete everything: name a number of days above 0, or delete the"
            " home's folder. (In furnisync.toml, retention_days = 0 means: keep everything.)"
        )
    if older_than is not None and not 0 < older_than <= MAX_DAYS:
        raise ConfigError(
            f"--older-than is {older_than:g}: name a number of days above 0, at most {MAX_DAYS:,}."
        )
    return given[0]


def _can_ask() -> bool:
    streams = (sys.stdin, sys.stdout)  # None where the stream was closed
    return all(stream is not None and stream.isatty() for stream in streams)


def _show(console: Console, numbers: list[Gone], title: str) -> None:
    table = make_table("in", "what", title, right=(title,))
    for gone in numbers:
        table.add_row(gone.where, gone.what, f"{gone.number:,}")
    console.print(table)
