"""Progress: bars at the bottom of a terminal, elsewhere one log line a minute."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from furnisync.cli.status import quota_line
from furnisync.status.eta import duration
from furnisync.status.history import DataStatus
from furnisync.status.images import Status

log = logging.getLogger("furnisync")

FIRST_LINE_S = 5.0
LINE_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class Stage:
    """How far one thing is; `total` is None where nobody knows it."""

    title: str
    done: int
    total: int | None
    note: str = ""

    def count(self) -> str:
        """In percent, or as a number where no total is known."""
        if not self.total:
            return f"{self.done:,}"
        return f"{100 * min(self.done, self.total) // self.total} %"


@dataclass(frozen=True, slots=True)
class Frame:
    """What a running sync shows: stages between two lines on a terminal, one line in a log."""

    head: str
    stages: tuple[Stage, ...]
    foot: str
    line: str


class _FramedProgress(Progress):
    """Bars with a line above and a line below."""

    head = foot = ""

    def get_renderables(self) -> Iterator[RenderableType]:
        """Called by rich for each refresh."""
        if self.head:
            yield Text(self.head, style="bold")
        yield from super().get_renderables()
        if self.foot:
            yield Text(self.foot, style="dim")


class Bars:
    """A context manager that shows progress on a console.

    Where standard output takes JSON, the console is that of errors: then nothing is logged, as the
    log goes to standard output.
    """

    def __init__(self, console: Console) -> None:
        self._logs = not console.is_terminal and not console.stderr
        self._progress = _FramedProgress(
            TextColumn("{task.description}", justify="right", markup=False),
            BarColumn(bar_width=32),
            TextColumn("{task.fields[count]}", markup=False),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            TimeElapsedColumn(),
            console=console,
            refresh_per_second=4,
            transient=True,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._line_due = time.monotonic() + FIRST_LINE_S
        self._part = Stage("", 0, None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, stage: str, done: int, total: int | None, note: str = "") -> None:
        """Show how far a stage is, in any unit."""
        self._part = Stage(stage, done, total, note)
        self._move(self._part)
        self._log(f"{stage}: {self._part.count()} {note}".rstrip())

    def begin(self, title: str, total: int | None) -> None:
        """Begin a stage that counts by `step`."""
        self.show(title, 0, total)

    def step(self, number: int) -> None:
        """Add to the stage that was shown last."""
        self.show(self._part.title, self._part.done + number, self._part.total)

    def show_frame(self, frame: Frame) -> None:
        """Show the newest status of a sync."""
        self._progress.head, self._progress.foot = frame.head, frame.foot
        for stage in frame.stages:
            self._move(stage)
        self._log(frame.line)

    def _move(self, stage: Stage) -> None:
        shown: dict[str, Any] = {
            "total": stage.total,
            "completed": stage.done,
            "count": stage.count(),
            "note": stage.note,
        }
        if stage.title in self._tasks:
            self._progress.update(self._tasks[stage.title], **shown)
        else:
            self._tasks[stage.title] = self._progress.add_task(stage.title, **shown)

    def _log(self, line: str) -> None:
        if self._logs and time.monotonic() >= self._line_due:
            self._line_due = time.monotonic() + LINE_EVERY_S
            log.info("%s", line)


# -- syncs -----------------------------------------------------------------------------------------


def frame_images(status: Status) -> Frame:
    """What a running image sync shows."""
    images, known = status.images, sum(status.listings.values())
    activity, quota = status.activity, quota_line(status.quota)
    doing = "starting" if activity is None else activity.doing
    if activity is not None and activity.downloads_paused:
        doing += f"; downloads pause: {activity.downloads_paused}"
    if status.seconds_left:
        doing += f" (about {duration(status.seconds_left)} left)"
    rate = f"{0.0 if activity is None else activity.images_per_second:,.1f} images/s"
    total = sum(number for state, number in images.items() if state != "unwanted")
    pending = images.get("pending", 0)
    with_images = known - status.batches_waiting
    stages = (
        *_pass_stage(status),
        Stage(
            "listings with images",
            with_images,
            known,
            f"{with_images:,} of {known:,}, {status.shops:,} shops",
        ),
        Stage(
            "images",
            total - pending,
            total,
            f"{total - pending:,} of {total:,}, {rate}, {decimal(status.image_bytes)}",
        ),
    )
    failed = (f", {images[kind]:,} {kind}" for kind in ("gone", "bad", "failed") if kind in images)
    counts = f"images: {images.get('done', 0):,} done, {pending:,} waiting{''.join(failed)}"
    return Frame(doing, stages, quota, f"{doing}; {known:,} listings; {counts}; {rate}; {quota}")


def _pass_stage(status: Status) -> Iterator[Stage]:
    if (current := status.current_pass) is not None:
        total = current.pages_read + current.pages_left
        note = f"{current.intervals_done:,} of {current.intervals:,} price intervals"
        yield Stage("pages", current.pages_read, total, note)


def frame_data(status: DataStatus) -> Frame:
    """What a running data sync shows."""
    total = status.shops - status.gone
    waiting = status.reviews_never_walked + status.reviews_due
    current, walked = total - status.waiting, max(0, total - waiting - status.never_synced)
    quota = quota_line(status.quota)
    stages = (
        Stage(
            "shops synced",
            current,
            total,
            f"{current:,} of {total:,}, {status.under_way:,} in progress",
        ),
        Stage("reviews up to date", walked, total, f"{walked:,} of {total:,} shops"),
    )
    line = (
        f"{status.synced:,} of {total:,} shops synced, {status.under_way:,} in progress,"
        f" {status.waiting:,} due, reviews of {waiting:,} due; {quota}"
    )
    return Frame("collecting shops, listings and reviews", stages, quota, line)
