"""`furnisync coverage`: how much of furniture the newest pass has proved to hold."""

import sys
from contextlib import closing
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from furnisync.catalog.coverage import Coverage, IntervalCoverage, read_coverage, read_shops
from furnisync.catalog.schema import read_catalog
from furnisync.cli.console import make_console
from furnisync.cli.options import TestFlag
from furnisync.cli.words import clock_time
from furnisync.config import HomeFiles, read_environment
from furnisync.errors import ConfigError
from furnisync.history.schema import open_history_reader
from furnisync.home import require_home

EXIT_INCOMPLETE = 1


def coverage(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
    test: TestFlag = False,
) -> None:
    """Show the coverage certificate: what the newest pass read whole, and what not and why."""
    files = HomeFiles(read_environment().home, test)
    require_home(files)
    raise typer.Exit(show_coverage(files, as_json=as_json))


def show_coverage(files: HomeFiles, *, as_json: bool) -> int:
    """Print the certificate.

    Returns:
        exit status: 0 complete, 1 not.

    Raises:
        ConfigError: nothing was read yet.
        DatabaseUnusable: there is no catalogue, or it is not ours.
    """
    with closing(read_catalog(files.catalog)) as catalog:
        found = read_coverage(catalog)
        if found is None:
            raise ConfigError(
                f"No pass over furniture has begun in {files.home}: run sync_images.py first."
            )
        shops = read_shops(catalog, _active_counts(files))
        if as_json:
            picture = {**msgspec.to_builtins(found), "total": found.total()}
            body = msgspec.json.encode(picture)[:-1] + b', "shops": ['
            sys.stdout.buffer.write(body)
            for number, shop in enumerate(shops):
                sys.stdout.buffer.write((b",\n" if number else b"\n") + msgspec.json.encode(shop))
            sys.stdout.buffer.write(b"\n]}\n")
            sys.stdout.buffer.flush()
        else:
            _print(make_console(), found)
    return 0 if found.complete else EXIT_INCOMPLETE


def _active_counts(files: HomeFiles) -> dict[int, int | None]:
    """`listing_active_count` of each shop that data sync has asked."""
    if not files.history.exists():
        return {}
    with closing(open_history_reader(files.history)) as history:
        rows = history.execute("SELECT shop_id, listings_active FROM sync_state")
        return {row[0]: row[1] for row in rows}


def _print(console: Console, found: Coverage) -> None:
    table = Table(
        title=f"Pass begun {clock_time(found.started_at)}", title_justify="left", box=None
    )
    table.add_column("taxonomy", no_wrap=True)
    table.add_column("price, US$", justify="right", no_wrap=True)
    for name in ("counted", "found", "short"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("when", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("why", overflow="fold")
    for one in found.intervals:
        table.add_row(
            f"{one.taxonomy_id} {one.taxonomy or ''}",
            _range(one),
            "?" if one.count is None else f"{one.count:,}",
            f"{one.found:,}",
            f"{one.short:,}" if one.short else "",
            "" if one.at is None else clock_time(one.at),
            one.verdict,
            one.reason or "",
            style=None if one.verdict == "complete" else "yellow",
        )
    console.print(table)
    console.print(found.total(), style="green" if found.complete else "bold yellow")


def _range(one: IntervalCoverage) -> str:
    low = "0" if one.low is None else f"{one.low:,.10g}"
    return f"{low} and more" if one.high is None else f"{low} to {one.high:,.10g}"
