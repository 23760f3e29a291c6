"""`furnisync plan` and `furnisync coverage`: what a pass is to read, and what it has read."""

import asyncio
import sys
from contextlib import closing
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from furnisync.catalog.coverage import Coverage, read_coverage, read_shops
from furnisync.catalog.schema import read_catalog
from furnisync.cli.console import (
    EXIT_INCOMPLETE,
    JsonFlag,
    TestFlag,
    clock_time,
    make_console,
    make_table,
    price_range,
)
from furnisync.clock import SystemClock
from furnisync.config import HomeFiles, read_environment, read_settings
from furnisync.crawl.plan_cost import PlanCost, PlannedInterval, cost_of_plan, make_plan
from furnisync.errors import ConfigError, GaveUp, Terminal, Transient, UserError
from furnisync.history.schema import open_history_reader
from furnisync.home import prepare_home, require_home

# -- plan ------------------------------------------------------------------------------------------


def plan(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what a pass would read; no calls.")
    ] = False,
    test: TestFlag = False,
) -> None:
    """Fit the crawl plan's price intervals to the listings that Etsy counts; show its cost."""
    environment = read_environment()
    files = HomeFiles(environment.home, test)
    if dry_run:
        require_home(files)
    else:
        prepare_home(files)
    settings = read_settings(files.settings)
    if not dry_run:
        environment.require_key()
        try:
            asyncio.run(make_plan(environment, settings, SystemClock(), test=test))
        except UserError:
            raise
        except (Transient, Terminal, GaveUp) as error:
            raise ConfigError(
                f"Etsy does not answer ({error}): what was planned is kept, try again later."
            ) from error
    _print_plan(make_console(), cost_of_plan(files), files)


def _print_plan(console: Console, cost: PlanCost, files: HomeFiles) -> None:
    numbers = ("price, US$", "listings", "pages")
    table = make_table("taxonomy", *numbers, "", right=numbers, title=str(files.plan))
    for one in cost.intervals:
        count = "not known" if one.count is None else f"{one.count:,}"
        price = price_range(one.low, one.high)
        table.add_row(
            f"{one.taxonomy_id} {one.name}", price, count, f"{one.pages:,}", _plan_note(one)
        )
    console.print(table)
    splits = f" and splits intervals with {cost.cuts:,} calls" if cost.cuts else ""
    console.print(
        f"A pass reads {cost.pages:,} pages{splits}; images of all its listings take"
        f" {cost.batches:,} batch calls as well."
    )
    if any(one.count is None for one in cost.intervals):
        console.print("An interval that was never read counts as one page: the first pass shows.")


def _plan_note(one: PlannedInterval) -> str:
    if not one.over_reach:
        return ""
    return "one price, read from both ends" if one.single_price else "too long, will be split"


# -- coverage --------------------------------------------------------------------------------------


def coverage(*, as_json: JsonFlag = False, test: TestFlag = False) -> None:
    """Show the coverage certificate: what the newest pass read completely, what not and why."""
    files = HomeFiles(read_environment().home, test)
    require_home(files)
    raise typer.Exit(_show_coverage(files, as_json=as_json))


def _show_coverage(files: HomeFiles, *, as_json: bool) -> int:
    """Print the certificate.

    Returns:
        exit status: 0 complete, 1 not.

    Raises:
        ConfigError: nothing was read yet.
        DatabaseUnusable: there is no catalog, or it is not ours.
    """
    with closing(read_catalog(files.catalog)) as catalog:
        found = read_coverage(catalog)
        if found is None:
            raise ConfigError(
                f"No pass over furniture has begun in {files.home}: run sync_images.py first."
            )
        shops = read_shops(catalog, _active_counts(files))
        if as_json:
            head = {**msgspec.to_builtins(found), "total": found.total()}
            sys.stdout.buffer.write(msgspec.json.encode(head)[:-1] + b', "shops": [')
            for number, shop in enumerate(shops):
                sys.stdout.buffer.write((b",\n" if number else b"\n") + msgspec.json.encode(shop))
            sys.stdout.buffer.write(b"\n]}\n")
            sys.stdout.buffer.flush()
        else:
            _print_coverage(make_console(), found)
    return 0 if found.complete else EXIT_INCOMPLETE


def _active_counts(files: HomeFiles) -> dict[int, int | None]:
    """`listing_active_count` of each shop that data sync has read."""
    if not files.history.exists():
        return {}
    with closing(open_history_reader(files.history)) as history:
        return dict(history.execute("SELECT shop_id, listings_active FROM sync_state").fetchall())


def _print_coverage(console: Console, found: Coverage) -> None:
    numbers = ("price, US$", "counted", "found", "short")
    table = make_table(
        "taxonomy", *numbers, "when", "verdict", "why",
        right=numbers, title=f"Pass begun {clock_time(found.started_at)}",
    )  # fmt: skip
    for column in table.columns[:-1]:
        column.no_wrap = True
    for one in found.intervals:
        table.add_row(
            f"{one.taxonomy_id} {one.taxonomy or ''}",
            price_range(one.low, one.high),
            "?" if one.count is None else f"{one.count:,}",
            f"{one.found:,}",
            f"{one.short:,}" if one.short and one.verdict != "complete" else "",
            "" if one.at is None else clock_time(one.at),
            one.verdict,
            one.reason or "",
            style=None if one.verdict == "complete" else "yellow",
        )
    console.print(table)
    console.print(found.total(), style="green" if found.complete else "bold yellow")
