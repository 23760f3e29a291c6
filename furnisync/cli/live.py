"""How a running sync shows itself: bars on a terminal, one line a minute in a file."""

import logging
import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from furnisync.cli.words import clock_time, duration, size
from furnisync.quota.report import QuotaState
from furnisync.status.images import Status

log = logging.getLogger("furnisync")

LINE_EVERY_S = 60.0


class View(Protocol):
    """Shows one picture after the other; a context manager, as a terminal must be left in order."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def show(self, status: Status) -> None:
        """Show the newest picture."""
        ...


def clock_line(quota: QuotaState | None) -> str | None:
    """How our clock differs from Etsy's and what that stops; None where nothing is known to."""
    if quota is None or quota.clock is None:
        return None
    words = f"{quota.clock}, seen since {clock_time(quota.clock.since)}"
    if quota.clock.wrong:
        words += ": no calls, no history until it agrees"
    return f"{words}; `furnisync doctor` compares it again"


def make_bars(console: Console) -> Progress:
    """Bars with how many of how many, and a field `note` behind."""
    return Progress(
        TextColumn("{task.description}", justify="right"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
        console=console,
    )


class LineView:
    """One useful line a minute, for log files."""

    def __init__(self) -> None:
        self._shown_at = time.monotonic() - LINE_EVERY_S + 5

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, status: Status) -> None:
        """Write a line if a minute has passed."""
        if time.monotonic() - self._shown_at >= LINE_EVERY_S:
            self._shown_at = time.monotonic()
            log.info("%s", summary_line(status))


class TerminalView:
    """Bars that stay at the bottom of a terminal."""

    def __init__(self, console: Console) -> None:
        self._bars = make_bars(console)
        self._pages = self._bars.add_task("pages", total=None, note="")
        self._listings = self._bars.add_task("listings with images", total=None, note="")
        self._images = self._bars.add_task("images", total=None, note="")
        self._live = Live(console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *details: object) -> None:
        self._live.stop()

    def show(self, status: Status) -> None:
        """Move the bars."""
        if (current := status.current_pass) is not None:
            total = current.pages_read + current.pages_left
            note = f"{current.intervals_done} of {current.intervals} price intervals"
            self._bars.update(self._pages, total=total, completed=current.pages_read, note=note)
        known = sum(status.listings.values())
        told = known - status.batches_waiting
        self._bars.update(
            self._listings, total=known, completed=told, note=f"{status.shops:,} shops"
        )
        total = sum(number for state, number in status.images.items() if state != "unwanted")
        ended = total - status.images.get("pending", 0)
        note = f"{_rate(status)}, {size(status.image_bytes)}"
        self._bars.update(self._images, total=total, completed=ended, note=note)
        layout = Table.grid()
        layout.add_row(_doing(status), style="bold")
        layout.add_row(self._bars)
        layout.add_row(quota_line(status.quota), style="dim")
        self._live.update(layout)


def make_view(console: Console) -> TerminalView | LineView:
    """Bars on a terminal, lines elsewhere."""
    return TerminalView(console) if console.is_terminal else LineView()


def summary_line(status: Status) -> str:
    """The whole picture in a line."""
    images = status.images
    parts = [
        _doing(status),
        f"{sum(status.listings.values()):,} listings",
        f"images: {images.get('done', 0):,} done, {images.get('pending', 0):,} waiting"
        + "".join(
            f", {images[kind]:,} {kind}" for kind in ("gone", "bad", "failed") if kind in images
        ),
        _rate(status),
        quota_line(status.quota),
    ]
    return "; ".join(parts)


def quota_line(quota: QuotaState | None) -> str:
    """The quota in a line."""
    if quota is None:
        return "quota: not known yet"
    left = "unknown" if quota.remaining_today is None else f"{quota.remaining_today:,}"
    limit = "" if quota.limit_per_day is None else f" of {quota.limit_per_day:,}"
    line = f"calls: {quota.used_last_day:,} in 24 h, {left}{limit} left"
    if quota.waiting_until is not None:
        return f"{line}, waiting until {clock_time(quota.waiting_until)} ({quota.waiting_why})"
    return line


def _doing(status: Status) -> str:
    if status.activity is None:
        return "starting" if status.pid else "not running"
    doing = status.activity.doing
    if status.activity.downloads_paused:
        doing += f"; downloads pause: {status.activity.downloads_paused}"
    if status.seconds_left:
        doing += f" (about {duration(status.seconds_left)} to go)"
    return doing


def _rate(status: Status) -> str:
    rate = 0.0 if status.activity is None else status.activity.images_per_second
    return f"{rate:,.1f} images/s"
