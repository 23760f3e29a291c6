"""`furnisync status`, and the tables that a run ends with."""

import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from furnisync.circuit_breaker import Outage
from furnisync.cli.console import (
    JsonFlag,
    TestFlag,
    clock_time,
    make_console,
    make_facts,
    make_table,
)
from furnisync.clock import SystemClock
from furnisync.config import HomeFiles, read_environment, read_settings
from furnisync.history.schema import open_history_reader
from furnisync.home import require_home
from furnisync.quota.report import Event, QuotaState
from furnisync.status.eta import duration
from furnisync.status.history import DataStatus, FirstSync, count_rows, read_data_status, to_json
from furnisync.status.images import PassStatus, Status, Trouble, read_status

EXAMPLES = 5


def status(*, as_json: JsonFlag = False, test: TestFlag = False) -> None:
    """Show what is collected, what runs, what is left, what failed and why."""
    files = HomeFiles(read_environment().home, test)
    require_home(files)
    clock = SystemClock()
    images = read_status(files, clock)
    history = None
    if files.history.exists():
        history = read_data_status(files, read_settings(files.settings).data, clock)
    if as_json:
        sys.stdout.write(to_json(images, history) + "\n")
        return
    console = make_console()
    print_status(console, images, clock.now())
    if history is not None:
        console.print()
        print_data_status(console, history)


def quota_line(quota: QuotaState | None) -> str:
    """The quota in a line."""
    if quota is None:
        return "not known yet"
    line = f"calls: {quota.used_last_day:,} in 24 h"
    if quota.remaining_today is None:
        line += ", what is left is not known yet"
    else:
        limit = "" if quota.limit_per_day is None else f" of {quota.limit_per_day:,}"
        line += f", {quota.remaining_today:,}{limit} left"
    if quota.used_by_others:
        line += f", {quota.used_by_others:,} spent by something else that uses the key"
    if quota.waiting_until is not None:
        return f"{line}, waiting until {clock_time(quota.waiting_until)} ({quota.waiting_why})"
    return line


def _quota_facts(quota: QuotaState | None) -> Iterator[tuple[str, str]]:
    yield "quota", quota_line(quota)
    if quota is not None and quota.clock is not None:
        text = f"{quota.clock}, seen since {clock_time(quota.clock.since)}"
        if quota.clock.wrong:
            text += ": no calls and no history until the clocks agree"
        yield "clock", f"{text}; `furnisync doctor` compares them again"


def _outage_facts(outages: Sequence[Outage]) -> Iterator[tuple[str, str]]:
    for one in outages:
        since, probe = clock_time(one.since), clock_time(one.next_probe)
        yield "broken", f"{one.upstream} since {since}: {one.reason}; next try {probe}"


# -- image sync ------------------------------------------------------------------------------------


def print_status(console: Console, status: Status, now: float) -> None:
    """Print the status of image sync as tables; `now` in unix seconds."""
    table = make_facts()
    for name, value in _image_facts(status, now):
        table.add_row(name, value)
    console.print(table)
    if status.quota is not None and status.quota.usage:
        counts = ("last hour", "last 24 h")
        usage = make_table("program", "purpose", *counts, right=counts, title="Calls by purpose")
        for one in status.quota.usage:
            usage.add_row(one.program, one.purpose, f"{one.last_hour:,}", f"{one.last_day:,}")
        console.print(usage)
    _print_troubles(console, status.troubles)
    _print_events(console, status.events)


def _image_facts(status: Status, now: float) -> Iterator[tuple[str, str]]:
    images, activity = status.images, status.activity
    total = sum(number for state, number in images.items() if state != "unwanted")
    others = (
        f", {images[state]:,} {state}"
        for state in ("pending", "gone", "bad", "failed")
        if state in images
    )
    yield "home", status.home
    yield "image sync", _running(status)
    if status.pid is not None and activity is not None and activity.downloads_paused:
        yield "downloads", f"downloads pause: {activity.downloads_paused}"
    yield "listings", _by_state(status.listings)
    yield "shops", f"{status.shops:,}"
    done, size = images.get("done", 0), decimal(status.image_bytes)
    place = "here" if status.image_folder_away is None else "recorded, the folder is not here"
    yield "images", f"{done:,} of {total:,} {place}, {size}{''.join(others)}"
    yield "waiting", f"{status.batches_waiting:,} listings for batch, {status.images_due:,} images"
    if status.current_pass is not None:
        yield "pass", _pass_text(status.current_pass)
    yield from _quota_facts(status.quota)
    yield from _outage_facts(status.outages)
    if status.seconds_left:
        until = clock_time(now + status.seconds_left)
        calls = f"{status.calls_left:,} calls, " if status.calls_left else ""
        yield "left", f"{calls}about {duration(status.seconds_left)}, until {until}"
    if status.disk is not None and status.disk.needed_bytes:
        needed, free = decimal(status.disk.needed_bytes), decimal(status.disk.free_bytes)
        verdict = "" if status.disk.fits else ": NOT ENOUGH, use a larger disk or a smaller `size`"
        yield "disk", f"the missing images take about {needed}, {free} are free{verdict}"
    yield "image files", status.image_folder
    yield "metadata", status.metadata
    if status.image_folder_away is not None:
        yield "", status.image_folder_away


def _running(status: Status) -> str:
    if status.pid is None:
        return "not running"
    if status.activity is None:
        return f"running (pid {status.pid})"
    return f"running (pid {status.pid}, {status.activity.mode}): {status.activity.doing}"


def _by_state(numbers: dict[str, int]) -> str:
    order = sorted(numbers, key=lambda state: (state not in {"active", "gone"}, state))
    return ", ".join(f"{numbers[state]:,} {state}" for state in order) or "none yet"


def _pass_text(current: PassStatus) -> str:
    if current.complete and current.finished_at and not current.unreached:
        text = f"complete at {clock_time(current.finished_at)}"
    else:
        text = f"begun {clock_time(current.started_at)}, not complete"
    text += f"; {current.intervals_done:,} of {current.intervals:,} price intervals read"
    if current.intervals_failed:
        text += f", {current.intervals_failed:,} failed"
    if current.unreached:
        text += f"; {current.unreached:,} listings out of reach of any query"
    return text


# -- data sync -------------------------------------------------------------------------------------


def print_data_status(console: Console, status: DataStatus) -> None:
    """Print the status of data sync as tables."""
    table = make_facts()
    table.add_row("data sync", "not running" if status.pid is None else f"pid {status.pid}")
    table.add_row(
        "shops",
        f"{status.synced:,} synced, {status.waiting:,} due ({status.never_synced:,} never synced),"
        f" {status.under_way:,} in progress, {status.gone:,} gone, {status.failing:,} failing",
    )
    table.add_row(
        "reviews",
        f"{status.reviews_never_walked:,} shops still to read, {status.reviews_due:,} due",
    )
    if status.first_sync is not None:
        table.add_row("first sync", _first_sync(status.first_sync))
    table.add_row("cadence", _cadence(status))
    for name, value in (*_quota_facts(status.quota), *_outage_facts(status.outages)):
        table.add_row(name, value)
    table.add_row("history", status.history)
    console.print(table)
    _print_troubles(console, status.troubles)
    _print_events(console, status.events)


def _first_sync(left: FirstSync) -> str:
    text = f"{left.calls:,} calls for the shops that were never synced, at least"
    if left.seconds is not None and left.until is not None:
        text += f": about {duration(left.seconds)} at this quota, until {clock_time(left.until)}"
    return text


def _cadence(status: DataStatus) -> str:
    behind = f"{status.behind_days:g} days behind" if status.behind_days else "kept"
    if status.never_synced:
        behind = f"not kept yet: {status.never_synced:,} shops were never synced"
    elif status.keeps_up is False and not status.behind_days:
        behind = "kept until now, but the quota will not do"
    if status.ahead:
        behind = f"unknown: {status.ahead:,} shops have times ahead of now from a wrong clock"
    text = f"{behind}; it needs about {status.calls_per_day:,.0f} calls a day"
    if status.quota_per_day is not None:
        text += f", the key allows {status.quota_per_day:,}"
    return text


def print_collected(console: Console, files: HomeFiles) -> None:
    """Print what the history holds: rows by table, and the latest values of a few."""
    with closing(open_history_reader(files.history)) as connection:
        rows = make_table("table", "rows", right=("rows",), title="Rows in etsy_data.db")
        for name, number in count_rows(connection).items():
            rows.add_row(name, f"{number:,}")
        for table in (rows, _latest_shops(connection), _latest_listings(connection)):
            console.print(table)
            console.print()


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
    for *values, at in rows:
        table.add_row(*("" if value is None else str(value) for value in values), clock_time(at))
    return table


# -- both ------------------------------------------------------------------------------------------


def _print_troubles(console: Console, troubles: Sequence[Trouble]) -> None:
    """What failed and why, most frequent first."""
    if troubles:
        table = make_table(
            "what", "number", "reason", right=("number",), title="What failed and why"
        )
        for one in troubles:
            table.add_row(one.what, f"{one.number:,}", one.reason)
        console.print(table)


def _print_events(console: Console, events: Sequence[Event]) -> None:
    """What a person should know, newest first."""
    if events:
        table = make_table("when", "what", title="What happened")
        for event in events:
            table.add_row(clock_time(event.at), event.message)
        console.print(table)
