"""`furnisync plan`: the crawl plan, its cost, and keeping it right."""

import asyncio
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from furnisync.cli.console import make_console
from furnisync.cli.options import TestFlag
from furnisync.clock import SystemClock
from furnisync.config import HomeFiles, read_environment, read_settings
from furnisync.crawl.plan_cost import PlanCost, PlannedInterval, cost_of_plan, make_plan
from furnisync.errors import ConfigError, Terminal, Transient, UserError
from furnisync.home import prepare_home, require_home


def plan(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what a pass would ask; no calls.")
    ] = False,
    test: TestFlag = False,
) -> None:
    """Cut and merge the crawl plan's price intervals where listings lie, and show what it costs."""
    show_plan(dry_run=dry_run, test=test)


def show_plan(*, dry_run: bool, test: bool) -> None:
    """Bring the plan in line with what Etsy counts (unless `dry_run`), then show what it costs.

    Raises:
        UserError: wrong input, or Etsy does not answer.
    """
    environment = read_environment()
    files = HomeFiles(environment.home, test)
    if dry_run:
        require_home(files)
    else:
        prepare_home(files)
    settings = read_settings(files.settings)
    console = make_console()
    if not dry_run:
        environment.require_key()
        try:
            asyncio.run(make_plan(environment, settings, SystemClock(), test=test))
        except UserError:
            raise
        except (Transient, Terminal) as error:
            raise ConfigError(
                f"Etsy does not answer ({error}): what was planned is kept, try again later."
            ) from error
    _print(console, cost_of_plan(files), files)


def _print(console: Console, cost: PlanCost, files: HomeFiles) -> None:
    table = Table(title=str(files.plan), title_justify="left", box=None)
    table.add_column("taxonomy")
    table.add_column("price, US$", justify="right")
    table.add_column("listings", justify="right")
    table.add_column("pages", justify="right")
    table.add_column("")
    for one in cost.intervals:
        low = "0" if one.low is None else f"{one.low:,.10g}"
        price = f"{low} and more" if one.high is None else f"{low} to {one.high:,.10g}"
        count = "not known" if one.count is None else f"{one.count:,}"
        note = _note(one)
        table.add_row(f"{one.taxonomy_id} {one.name}", price, count, f"{one.pages:,}", note)
    console.print(table)
    known = all(one.count is not None for one in cost.intervals)
    words = f"A pass reads {cost.pages:,} pages" + (
        f" and cuts with {cost.cuts:,}" if cost.cuts else ""
    )
    console.print(f"{words}; images of all its listings take {cost.batches:,} batch calls more.")
    if not known:
        console.print("Intervals that were never read count as one page: the first pass will tell.")


def _note(one: PlannedInterval) -> str:
    if not one.over_reach:
        return ""
    return "one price, read from both ends" if one.single_price else "too long, will be cut"
