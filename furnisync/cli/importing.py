"""`furnisync import`: an older tool's data."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from furnisync.cli.console import EXIT_INCOMPLETE, TestFlag, make_console, make_table
from furnisync.cli.live import Bars
from furnisync.clock import SystemClock
from furnisync.config import HomeFiles, ImageSize, read_environment, read_settings
from furnisync.errors import ConfigError
from furnisync.home import prepare_home
from furnisync.importer.importer import ALTERED_LEFT, Importer
from furnisync.importer.report import DAMAGED_SOURCES, Report
from furnisync.importer.run import Adopt, Choices, Run
from furnisync.importer.sources import Sources, find_sources

REPORT = "import_report.jsonl"


Folder = Annotated[
    Path | None,
    typer.Argument(
        metavar="FOLDER",
        help="The folder that the older tool worked in; its files are found there.",
        show_default=False,
    ),
]
MetadataFile = Annotated[
    Path | None, typer.Option(help="Its image_metadata.json.", show_default=False)
]
ImageFolders = Annotated[
    list[Path] | None,
    typer.Option(help="A folder of its images, or of tars of them; may be repeated."),
]
HistoryFile = Annotated[Path | None, typer.Option(help="Its etsy_data.db.", show_default=False)]
ProgressFile = Annotated[
    Path | None, typer.Option(help="Its sync_progress.json.", show_default=False)
]
AdoptMode = Annotated[
    Adopt,
    typer.Option(
        help="How image files are used: those in the image folder stay where they are and others"
        " are linked (place), or all are linked, moved or copied into its layout."
    ),
]
SizeName = Annotated[
    ImageSize | None,
    typer.Option(
        help="The CDN size of the old files, such as 570xN; default: found from each image.",
        show_default=False,
    ),
]
RereadReviews = Annotated[
    bool,
    typer.Option(
        "--reread-reviews",
        help="Do not trust that the older tool read all reviews: the next sync reads them.",
    ),
]
TakeAltered = Annotated[
    bool,
    typer.Option(
        "--take-altered",
        help="Import images that the older tool altered too, beside Etsy's originals.",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Show what would be imported; write nothing but a report."),
]
ReportFile = Annotated[
    Path | None,
    typer.Option(help="The file that lists what could not be used.", show_default=REPORT),
]


def import_data(  # noqa: PLR0913 -- the options of a command
    source: Folder = None,
    *,
    metadata: MetadataFile = None,
    images: ImageFolders = None,
    history: HistoryFile = None,
    progress: ProgressFile = None,
    adopt: AdoptMode = "place",
    size: SizeName = None,
    reread_reviews: RereadReviews = False,
    take_altered: TakeAltered = False,
    dry_run: DryRun = False,
    report: ReportFile = None,
    test: TestFlag = False,
) -> None:
    """Import an older tool's images, metadata and history, without any API call."""
    files = HomeFiles(read_environment().home, test)
    prepare_home(files)
    settings = read_settings(files.settings)
    choices = Choices(adopt, size, reread_reviews, take_altered, dry_run)
    named = Sources(() if metadata is None else (metadata,), tuple(images or ()), history, progress)
    sources = _sources(source, named, files, dry=dry_run)
    console = make_console()
    where = report or files.home / REPORT
    with Report(where) as written, Bars(console) as bars:
        now = int(SystemClock().now())
        Importer(Run(files, settings, choices, now, written, bars.show)).run(sources)
        short = written.short_sources()
    print_report(console, written, short, choices)
    incomplete = short or written.counts[DAMAGED_SOURCES]
    raise typer.Exit(EXIT_INCOMPLETE if incomplete else 0)


def _sources(folder: Path | None, named: Sources, files: HomeFiles, *, dry: bool) -> Sources:
    """Combine the files that were named with those in the folder; named files win.

    Raises:
        ConfigError: nothing is named, or what is named does not exist.
    """
    for path in (*named.metadata, named.database, named.progress):
        if path is not None and not path.is_file():
            raise ConfigError(f"{path} does not exist: name a file.")
    for path in named.images:
        if not path.is_dir():
            raise ConfigError(f"{path} is not a folder: name the folder of the images.")
    if folder is None:
        if not named.found:
            raise ConfigError(
                "No source is named: give the folder that the older tool worked in, or its"
                " files one by one (--metadata, --images, --history, --progress)."
            )
        return named
    found = find_sources(folder, files, dry=dry)
    return Sources(
        named.metadata or found.metadata,
        named.images or found.images,
        named.database or found.database,
        named.progress or found.progress,
        found.plan,
    )


def print_report(console: Console, report: Report, short: list[str], choices: Choices) -> None:
    """Print what was imported, and what was not."""
    table = make_table(title="Would be imported" if choices.dry else "Imported")
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    for what in sorted(report.counts, key=_order):
        if number := report.counts[what]:
            table.add_row(f"{number:,}", what)
    console.print(table)
    if report.left_out:
        console.print(
            f"\n{report.left_out:,} entries that were not used are in {report.path}, with reasons."
        )
    if report.counts[DAMAGED_SOURCES]:
        console.print(
            "A damaged source could be read only in part: all that could be read is imported.",
            style="bold yellow",
        )
    for sentence in short:
        console.print(
            f"Fewer than half were imported of {sentence}", style="bold yellow", soft_wrap=True
        )
    if report.counts[ALTERED_LEFT]:
        console.print(
            "Altered images (background removed) are not Etsy's originals, which image sync"
            " downloads; --take-altered imports them too, marked as altered."
        )
    if choices.dry:
        console.print("Nothing was written. The same command without --dry-run imports it.")


def _order(what: str) -> tuple[int, str]:
    first = ("listings", "images", "files", "rows", "shops")
    place = next((i for i, word in enumerate(first) if what.startswith(word)), len(first))
    return place, what
