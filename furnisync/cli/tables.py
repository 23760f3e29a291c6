"""What a run ends with: tables of what there is, what is missing and why."""

import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from furnisync.cli.live import clock_line, quota_line
from furnisync.cli.words import clock_time, duration, size
from furnisync.config import HomeFiles
from furnisync.quota.report import QuotaState
from furnisync.status.images import Event, Status


def print_status(console: Console, status: Status, files: HomeFiles) -> None:
    """The whole picture as tables."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", justify="right")
    table.add_column(overflow="fold")
    for name, value in _facts(status, files):
        table.add_row(name, value)
    console.print(table)
    if status.quota is not None and status.quota.usage:
        print_usage(console, status.quota)
    if status.troubles:
        print_troubles(console, status)
    print_events(console, status.events)


def _facts(status: Status, files: HomeFiles) -> list[tuple[str, str]]:
    images = status.images
    total = sum(number for state, number in images.items() if state != "unwanted")
    rows = [
        ("home", status.home),
        ("image sync", _running(status)),
        *_paused(status),
        ("listings", _by_state(status.listings, ("active", "gone"))),
        ("shops", f"{status.shops:,}"),
        (
            "images",
            f"{images.get('done', 0):,} of {total:,} here, {size(status.image_bytes)}"
            + "".join(
                f", {images[kind]:,} {kind}"
                for kind in ("pending", "gone", "bad", "failed")
                if kind in images
            ),
        ),
        ("waiting", f"{status.batches_waiting:,} listings for batch, {status.images_due:,} images"),
    ]
    if (current := status.current_pass) is not None:
        if current.complete and current.finished_at:
            words = f"complete at {clock_time(current.finished_at)}"
        else:
            words = f"begun {clock_time(current.started_at)}, not complete"
        words += f"; {current.intervals_done:,} of {current.intervals:,} price intervals read"
        if current.intervals_failed:
            words += f", {current.intervals_failed:,} failed"
        if current.unreached:
            words += f"; {current.unreached:,} listings out of reach of any query"
        rows.append(("pass", words))
    rows.append(("quota", quota_line(status.quota)))
    if (clock := clock_line(status.quota)) is not None:
        rows.append(("clock", clock))
    if status.seconds_left:
        until = clock_time(time.time() + status.seconds_left)
        rows.append(("to go", f"about {duration(status.seconds_left)}, until {until}"))
    rows += [("image files", str(files.images)), ("metadata", str(files.metadata))]
    if status.image_folder_away is not None:
        rows.append(("", status.image_folder_away))
    return rows


def _running(status: Status) -> str:
    if status.pid is None:
        return "not running"
    if status.activity is None:
        return f"running (pid {status.pid})"
    return f"running (pid {status.pid}, {status.activity.mode}): {status.activity.doing}"


def _paused(status: Status) -> list[tuple[str, str]]:
    if status.pid is None or status.activity is None or not status.activity.downloads_paused:
        return []
    return [("downloads", f"downloads pause: {status.activity.downloads_paused}")]


def _by_state(numbers: dict[str, int], first: tuple[str, ...]) -> str:
    order = sorted(numbers, key=lambda state: (state not in first, state))
    return ", ".join(f"{numbers[state]:,} {state}" for state in order) or "none yet"


def print_troubles(console: Console, status: Status) -> None:
    """What failed and why, most frequent first."""
    table = Table(title="What failed and why", title_justify="left", box=None, pad_edge=False)
    table.add_column("what")
    table.add_column("number", justify="right")
    table.add_column("reason", overflow="fold")
    for trouble in status.troubles:
        table.add_row(trouble.what, f"{trouble.number:,}", trouble.reason)
    console.print(table)


def print_usage(console: Console, quota: QuotaState) -> None:
    """Where the day's calls went."""
    table = Table(title="Calls by purpose", title_justify="left", box=None, pad_edge=False)
    table.add_column("program")
    table.add_column("purpose")
    table.add_column("last hour", justify="right")
    table.add_column("last 24 h", justify="right")
    for one in quota.usage:
        table.add_row(one.program, one.purpose, f"{one.last_hour:,}", f"{one.last_day:,}")
    console.print(table)


def print_events(console: Console, events: Sequence[Event]) -> None:
    """What a person should know, newest first; nothing where there is nothing."""
    if not events:
        return
    table = Table(title="What happened", title_justify="left", box=None, pad_edge=False)
    table.add_column("when")
    table.add_column("what", overflow="fold")
    for event in events:
        table.add_row(clock_time(event.at), event.message)
    console.print(table)
