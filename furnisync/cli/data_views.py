"""How a running data sync shows itself, and what it ends with."""

import logging
import sqlite3
import time
from contextlib import closing
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from furnisync.cli.live import LINE_EVERY_S, clock_line, make_bars, quota_line
from furnisync.cli.tables import print_events
from furnisync.cli.words import clock_time
from furnisync.config import HomeFiles
from furnisync.history.schema import open_history_reader
from furnisync.status.history import DataStatus, count_rows

log = logging.getLogger("furnisync")

EXAMPLES = 5


class DataLineView:
    """One useful line a minute, for log files."""

    def __init__(self) -> None:
        self._shown_at = time.monotonic() - LINE_EVERY_S + 5

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, status: DataStatus) -> None:
        """Write a line if a minute has passed."""
        if time.monotonic() - self._shown_at >= LINE_EVERY_S:
            self._shown_at = time.monotonic()
            log.info(
                "%d of %d shops synced, %d half here, %d wait, reviews of %d wait; %s",
                status.synced,
                status.shops - status.gone,
                status.under_way,
                status.waiting,
                status.reviews_never_walked + status.reviews_due,
                quota_line(status.quota),
            )


class DataTerminalView:
    """Bars that stay at the bottom of a terminal."""

    def __init__(self, console: Console) -> None:
        self._bars = make_bars(console)
        self._shops = self._bars.add_task("shops synced", total=None, note="")
        self._reviews = self._bars.add_task("reviews up to date", total=None, note="")
        self._live = Live(console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, status: DataStatus) -> None:
        """Move the bars."""
        total = status.shops - status.gone
        self._bars.update(
            self._shops,
            total=total,
            completed=total - status.waiting,
            note=f"{status.under_way:,} half here",
        )
        behind = status.reviews_never_walked + status.reviews_due + status.never_synced
        self._bars.update(self._reviews, total=total, completed=max(0, total - behind), note="")
        layout = Table.grid()
        layout.add_row("collecting shops, listings and reviews", style="bold")
        layout.add_row(self._bars)
        layout.add_row(quota_line(status.quota), style="dim")
        self._live.update(layout)


def make_data_view(console: Console) -> DataTerminalView | DataLineView:
    """Bars on a terminal, lines elsewhere."""
    return DataTerminalView(console) if console.is_terminal else DataLineView()


def print_data_status(console: Console, status: DataStatus, files: HomeFiles) -> None:
    """The state of the history as a table."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", justify="right")
    table.add_column(overflow="fold")
    table.add_row("data sync", "not running" if status.pid is None else f"pid {status.pid}")
    table.add_row(
        "shops",
        f"{status.synced:,} synced, {status.waiting:,} due ({status.never_synced:,} never synced),"
        f" {status.under_way:,} half here, {status.gone:,} gone, {status.failing:,} failing",
    )
    table.add_row(
        "reviews",
        f"{status.reviews_never_walked:,} synced shops never read, {status.reviews_due:,} due",
    )
    table.add_row("cadence", _cadence(status))
    table.add_row("quota", quota_line(status.quota))
    if (clock := clock_line(status.quota)) is not None:
        table.add_row("clock", clock)
    table.add_row("history", str(files.history))
    console.print(table)
    if status.troubles:
        troubles = Table(
            title="What failed and why", title_justify="left", box=None, pad_edge=False
        )
        for name in ("what", "number", "reason"):
            troubles.add_column(name)
        for one in status.troubles:
            troubles.add_row(one.what, f"{one.number:,}", one.reason)
        console.print(troubles)
    print_events(console, status.events)


def _cadence(status: DataStatus) -> str:
    behind = f"{status.behind_days:g} days behind" if status.behind_days else "kept"
    if status.ahead:
        behind = f"unknown: {status.ahead:,} shops bear times ahead of now, by a wrong clock"
    words = f"{behind}; keeping it takes about {status.calls_per_day:,.0f} calls a day"
    if status.quota_per_day is not None:
        words += f", the key allows {status.quota_per_day:,}"
    return words


def print_collected(console: Console, files: HomeFiles) -> None:
    """A picture of what the history holds: rows, and the latest values of a few."""
    with closing(open_history_reader(files.history)) as connection:
        rows = Table(title="Rows in etsy_data.db", title_justify="left", box=None, pad_edge=False)
        rows.add_column("table")
        rows.add_column("rows", justify="right")
        for name, number in count_rows(connection).items():
            rows.add_row(name, f"{number:,}")
        console.print(rows)
        console.print()
        console.print(_latest_shops(connection))
        console.print()
        console.print(_latest_listings(connection))


def _latest_shops(connection: sqlite3.Connection) -> Table:
    found = connection.execute(
        "SELECT shop_id, shop_location_country_iso, listing_active_count, num_favorers,"
        " transaction_sold_count, review_average, review_count, snapshot_timestamp"
        " FROM shops_latest ORDER BY listing_active_count DESC LIMIT ?",
        (EXAMPLES,),
    )
    names = ("shop", "country", "listings", "favorers", "sold", "rating", "reviews", "as of")
    return _examples("A few shops (shops_latest)", names, found)


def _latest_listings(connection: sqlite3.Connection) -> Table:
    found = connection.execute(
        "SELECT listing_id, substr(title, 1, 32), state,"
        " printf('%.2f %s', 1.0 * price_amount / price_divisor, price_currency_code), quantity,"
        " num_favorers, views, snapshot_timestamp"
        " FROM listings_latest ORDER BY num_favorers DESC LIMIT ?",
        (EXAMPLES,),
    )
    names = ("listing", "title", "state", "price", "quantity", "favorers", "views", "as of")
    return _examples("A few listings (listings_latest)", names, found)


def _examples(title: str, names: tuple[str, ...], rows: sqlite3.Cursor) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in names:
        table.add_column(name, justify="left" if name == "title" else "right", no_wrap=True)
    for row in rows:
        *values, at = row
        table.add_row(*("" if value is None else str(value) for value in values), clock_time(at))
    return table
