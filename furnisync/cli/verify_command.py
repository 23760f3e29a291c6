"""`furnisync verify`: is everything that the databases say on the disk, and whole?"""

import sys
from types import TracebackType
from typing import Annotated, Self

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from furnisync.cli.console import make_console
from furnisync.cli.options import TestFlag
from furnisync.clock import SystemClock
from furnisync.config import HomeFiles, read_environment
from furnisync.home import require_home
from furnisync.ops.checks.verify import Verify, VerifyReport

EXIT_WRONG = 1
SHOWN = 20


def verify(
    *,
    sha256: Annotated[
        bool, typer.Option("--sha256", help="Read every file and compare its sha256.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Fetch anew what is missing, truncated or changed.")
    ] = False,
    accept_folder: Annotated[
        bool,
        typer.Option(
            "--accept-folder",
            help="With --repair: the image folder is lost for good, take it as it is now.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
    test: TestFlag = False,
) -> None:
    """Hold image files, catalogue and history against each other; while a sync runs too."""
    status = run_verify(
        sha256=sha256, repair=repair, accept_folder=accept_folder, as_json=as_json, test=test
    )
    raise typer.Exit(status)


class Bar:
    """A bar on a terminal, nothing elsewhere."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._bars.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.__exit__(kind, error, trace)

    def begin(self, title: str, total: int | None) -> None:
        """Begin a part."""
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(title, total=total)

    def step(self, number: int) -> None:
        """Move on."""
        if self._task is not None:
            self._bars.advance(self._task, number)


def run_verify(
    *, sha256: bool, repair: bool, accept_folder: bool, as_json: bool, test: bool
) -> int:
    """Verify and tell what was found.

    Returns:
        exit status: 0 all is well or repaired, 1 something is wrong.

    Raises:
        UserError: nothing there, no image folder, repairing while image sync runs.
    """
    files = HomeFiles(read_environment().home, test)
    require_home(files)
    console = make_console(stderr=as_json)
    with Bar(console) as bar:
        report = Verify(
            files,
            SystemClock(),
            bar,
            sha256=sha256,
            repair=repair,
            accept_folder=accept_folder,
        ).run()
    if as_json:
        sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    else:
        _print(console, report, repair=repair)
    return EXIT_WRONG if report.wrong else 0


def _print(console: Console, report: VerifyReport, *, repair: bool) -> None:
    if report.troubles:
        table = Table(box=None, pad_edge=False)
        for name in ("what", "file", "detail"):
            table.add_column(name, overflow="fold")
        for one in report.troubles[:SHOWN]:
            file = one.file or f"listing {one.listing_id}, image {one.image_id}"
            table.add_row(one.kind, file, one.detail)
        console.print(table)
        more = sum(report.numbers.values()) - SHOWN
        if more > 0:
            console.print(f"... and {more:,} more (--json names the first thousand)")
    for trouble in report.rows:
        ids = ", ".join(map(str, trouble.examples))
        console.print(
            f"{trouble.database}: {trouble.number:,} {trouble.words}" + (f" ({ids})" if ids else "")
        )
    console.print(_summary(report, repair=repair), style="bold yellow" if report.wrong else "green")


def _summary(report: VerifyReport, *, repair: bool) -> str:
    words = f"{report.images:,} images and {report.files:,} files looked at"
    numbers = [f"{number:,} {kind}" for kind, number in report.numbers.items()]
    words += f": {', '.join(numbers)}" if numbers else ", each is as it should be"
    if report.repaired:
        words += f"; the next run of image sync brings {report.repaired:,} back"
    if report.wrong and not repair:
        words += "; --repair (while image sync is stopped) fetches anew what is not whole"
    return words + "."
