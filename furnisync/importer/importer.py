"""`furnisync import`: adds an older tool's data to a home, without a call and without a loss.

    source                     module               goes to
    furniture_taxonomy_config  importer             the crawl plan, if the home has none
    image files, tars          files                a scratch list, looked up by the next stages
    image_status               database, images     catalog: listings, images, files
    image_metadata.json        sources, images      the same, sorted by listing first
    files that none of them names  images           the same, if their names have an image id
    sync_progress.json         sources              shops that count as read
    shops, listings, reviews   database, history    history

The stages run in this order. Each adds only what is missing, so that a second import changes
nothing and the same command finishes a killed one. A rehearsal does all of it but the writing.
What is left out goes to the report with its reason (`report.py`).
"""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import groupby
from pathlib import Path
from typing import Final

from furnisync import durable
from furnisync.catalog.image_folder import check_folder, identify, settle
from furnisync.catalog.imported import import_shops
from furnisync.catalog.schema import open_catalog, read_catalog
from furnisync.crawl.plan_file import load_plan
from furnisync.errors import ConfigError, UserError
from furnisync.history.schema import WAL_PAGES
from furnisync.importer.database import SourceDatabase
from furnisync.importer.files import FileList
from furnisync.importer.history_import import HistoryImport
from furnisync.importer.images import ImageImport
from furnisync.importer.metadata_forms import BrokenEntry, SourceListing, read_rows
from furnisync.importer.report import DAMAGED_SOURCES, Reason
from furnisync.importer.run import Run
from furnisync.importer.scratch import ScratchList, scratch_database
from furnisync.importer.sources import Sources, read_metadata, read_progress
from furnisync.lockfile import single_instance
from furnisync.sqlite.database import transaction

SCRATCH: Final = ".import"
ALTERED_LEFT: Final = "altered images left where they are"
_FIRST_IMAGE_FIRST: Final = ("listing_id", "is_primary DESC", "image_id")


class Importer:
    """One import into a home."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._home = run.files
        self._report = run.report

    def run(self, sources: Sources) -> None:
        """Import all sources; neither sync may run at the same time.

        Raises:
            UserError: a sync runs, a source is not what it should be, the disk is full.
        """
        with ExitStack() as stack:
            stack.enter_context(single_instance(self._home.lock("images"), "image sync"))
            stack.enter_context(single_instance(self._home.lock("data"), "data sync"))
            scratch = stack.enter_context(durable.scratch_folder(self._home.home / SCRATCH))
            try:
                database = None
                if sources.database is not None:
                    database = SourceDatabase(sources.database, scratch, self._report)
                    stack.enter_context(closing(database))
                self._import_plan(sources.plan)
                self._import_images(sources, database, scratch)
                if database is not None:
                    HistoryImport(self._run, database).run(scratch)
            except (sqlite3.DatabaseError, OSError) as error:
                raise UserError(
                    f"The import into {self._home.home} stopped ({error}): fix that, free some"
                    " disk if it is full, then run the same command again; it continues from here."
                ) from error

    def _import_plan(self, plan: Path | None) -> None:
        """The older tool's price intervals, if the home has no plan yet."""
        if plan is None or self._home.plan.exists():
            return
        try:
            load_plan(plan, None)
        except ConfigError as error:
            where = (plan.name, "")
            self._report.leave_out(DAMAGED_SOURCES, where, Reason.NOT_A_PLAN, str(error))
            return
        self._report.count("crawl plans")
        if not self._run.choices.dry:
            durable.create(self._home.plan, plan.read_bytes())

    def _import_images(
        self, sources: Sources, database: SourceDatabase | None, scratch: Path
    ) -> None:
        with ExitStack() as stack:
            files = FileList(stack.enter_context(scratch_database(scratch / "files.db")))
            self._find_files(files, sources.images)
            catalog = stack.enter_context(closing(self._open_catalog(scratch)))
            images = ImageImport(self._run, catalog, files)
            if database is not None:
                self._import_rows(images, database)
            for number, path in enumerate(sources.metadata):
                self._import_metadata(images, path, scratch / f"entries{number}.db")
            images.add_rest(
                lambda done: self._run.progress("image files of unknown listings", done, None)
            )
            files.report(self._report)
            if sources.progress is not None:
                self._import_progress(catalog, sources.progress)

    def _find_files(self, files: FileList, folders: tuple[Path, ...]) -> None:
        for folder in folders:
            files.find(
                folder,
                self._report,
                lambda found: self._run.progress("finding image files", found, None),
            )
        files.index()
        self._report.count("placeholders", files.failed_count())
        if not self._run.choices.take_altered:
            self._report.count(ALTERED_LEFT, files.altered_count())

    def _open_catalog(self, scratch: Path) -> sqlite3.Connection:
        """The home's catalog, with its image folder; a rehearsal needs none and changes neither."""
        path, dry = self._home.catalog, self._run.choices.dry
        if dry and path.exists():
            read_catalog(path).close()  # refuses an older version, which would be migrated
        elif dry:
            path = scratch / path.name
        catalog = open_catalog(path)
        catalog.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        # Files go into this home's own image folder, or nowhere.
        check_folder(catalog, self._home)
        if not dry:
            with transaction(catalog):
                settle(catalog, self._home, identify(catalog, self._home))
        return catalog

    def _import_rows(self, images: ImageImport, database: SourceDatabase) -> None:
        source = database.source("image_status")
        total = database.count(*database.tables["image_status"])

        def show(done: int) -> None:
            read = self._report.read(source, 0)
            self._run.progress("image_status", read, total, f"{done:,} listings")

        images.add(self._listings_of_rows(database), source, database.written_at, show)

    def _listings_of_rows(self, database: SourceDatabase) -> Iterator[SourceListing]:
        rows = database.rows("image_status", *_FIRST_IMAGE_FIRST)
        for key, group in groupby(rows, key=lambda row: row.get("listing_id")):
            same = list(group)
            try:
                yield read_rows(key, same, self._run.settings.images.size)
            except BrokenEntry as broken:
                database.skip("image_status", repr(key), broken.reason, broken.detail, len(same))

    def _import_metadata(self, images: ImageImport, path: Path, scratch: Path) -> None:
        size = path.stat().st_size
        entries = read_metadata(
            path,
            self._run.settings.images.size,
            self._report,
            lambda position: self._run.progress(f"reading {path.name}", position, size),
        )
        with scratch_database(scratch) as connection:
            listings = ScratchList(connection, SourceListing)
            listings.add((one.listing_id, one) for one in entries)
            images.add(
                listings.by_key(),
                path.name,
                int(path.stat().st_mtime),
                lambda done: self._run.progress(f"listings of {path.name}", done, listings.count),
            )

    def _import_progress(self, catalog: sqlite3.Connection, path: Path) -> None:
        """Shops that the older tool read completely are due when they would have been due there."""
        progress = read_progress(path, self._report)
        read_at = progress.at or int(path.stat().st_mtime)
        with self._run.transaction(catalog):
            import_shops(catalog, progress.shops, read_at, self._run.now)
        self._report.count("shops that count as read", len(progress.shops))
        self._report.count("price intervals to be read again", progress.intervals)
