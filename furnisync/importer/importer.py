"""`furnisync import`: takes an older tool's data over, without a call and without losing anything.

    image files ──> scratch list ─┐
    image_status ─────────────────┼──> catalogue        shops, listings, reviews ──> history
    image_metadata.json ─(sorted)─┘    (old_images)                               (old_history)
    sync_progress.json ──> shops that count as synced

Every stage adds only what is missing, so that a second import changes nothing and a killed one is
finished by the same command. A rehearsal does all of it but the writing.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import groupby
from pathlib import Path
from typing import Final

from furnisync import durable
from furnisync.catalog.altered import FOLDER as ALTERED
from furnisync.catalog.image_folder import check_folder, identify, settle
from furnisync.catalog.imported import take_shops
from furnisync.catalog.schema import open_catalog, read_catalog
from furnisync.clock import DAY_S
from furnisync.crawl.plan_file import load_plan
from furnisync.errors import ConfigError, UserError
from furnisync.history.schema import WAL_PAGES
from furnisync.importer.adopt import Adopter, Placing
from furnisync.importer.database import OldDatabase
from furnisync.importer.files import CAME, OldFiles
from furnisync.importer.history_import import HistoryTakeover
from furnisync.importer.images import SOURCE, ImageTakeover, Rules
from furnisync.importer.metadata_forms import BrokenEntry, OldListing, read_rows
from furnisync.importer.run import Run, source_of
from furnisync.importer.sort import SortedListings
from furnisync.importer.sources import Sources, read_metadata, read_progress
from furnisync.importer.tables import Role
from furnisync.lockfile import single_instance
from furnisync.sqlite import transaction

SCRATCH: Final = ".import"
ALTERED_LEFT: Final = "altered pictures left where they lie"
_AT_ONCE: Final = 1000
_FIRST_IMAGE_FIRST: Final = ("listing_id", "is_primary DESC", "image_id")


class Takeover:
    """One import into a home."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._files = run.files
        self._settings = run.settings
        self._choices = run.choices
        self._report = run.report
        self._progress = run.progress

    def run(self, sources: Sources) -> None:
        """Take all of it over; neither sync may run meanwhile.

        Raises:
            UserError: a sync runs, a source is none, the disk is full.
        """
        with ExitStack() as stack:
            stack.enter_context(single_instance(self._files.lock("images"), "image sync"))
            stack.enter_context(single_instance(self._files.lock("data"), "data sync"))
            scratch = stack.enter_context(durable.scratch_folder(self._files.home / SCRATCH))
            try:
                database = None
                if sources.database is not None:
                    database = stack.enter_context(closing(OldDatabase(sources.database, scratch)))
                self._take_plan(sources.plan)
                self._take_images(sources, database, scratch)
                if database is not None:
                    HistoryTakeover(self._run, database).take(scratch)
            except (sqlite3.DatabaseError, OSError) as error:
                raise UserError(
                    f"The import into {self._files.home} stopped ({error}): fix that, free some"
                    " disk where it is full, then run the same command again; it goes on from here."
                ) from error

    # -- images --------------------------------------------------------------------------------

    def _take_plan(self, plan: Path | None) -> None:
        """The older tool's cuts of the price range, where the home has no plan of its own yet."""
        if plan is None or self._files.plan.exists():
            return
        try:
            load_plan(plan, None)
        except ConfigError as error:
            self._report.leave_out("damaged sources", plan.name, "", str(error))
            return
        self._report.count("crawl plans")
        if not self._choices.dry:
            durable.create(self._files.plan, plan.read_bytes())

    def _take_images(self, sources: Sources, database: OldDatabase | None, scratch: Path) -> None:
        with ExitStack() as stack:
            files = stack.enter_context(closing(OldFiles(scratch / "files.db")))
            for folder in sources.images:
                files.find(
                    folder,
                    lambda where, why: self._report.leave_out("unreadable", where, where, why),
                    lambda found: self._progress("finding image files", found, None),
                )
            files.index()
            if files.altered and not self._choices.take_altered:
                self._report.count(ALTERED_LEFT, files.altered)
            path = self._files.catalog
            if self._choices.dry and path.exists():
                read_catalog(path).close()  # a rehearsal migrates nothing: an older one is refused
            elif self._choices.dry:
                path = scratch / path.name
            catalog = stack.enter_context(closing(open_catalog(path)))
            catalog.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
            self._prepare_folder(catalog)
            takeover = self._image_takeover(catalog, files)
            self._take_rows(takeover, database)
            for number, metadata in enumerate(sources.metadata):
                self._take_metadata(takeover, metadata, scratch / f"entries{number}.db")
            takeover.take_left_over(
                lambda done: self._progress("image files that nothing told of", done, None)
            )
            self._tell_files(files)
            self._run.attempt(catalog, lambda: self._take_progress(catalog, sources.progress))

    def _prepare_folder(self, catalog: sqlite3.Connection) -> None:
        """Adopted files go into this home's own folder, or nowhere."""
        check_folder(catalog, self._files)
        if not self._choices.dry:
            with transaction(catalog):
                settle(catalog, self._files, identify(catalog, self._files))

    def _image_takeover(self, catalog: sqlite3.Connection, files: OldFiles) -> ImageTakeover:
        images = self._settings.images
        placing = Placing(self._choices.adopt, images.max_pixels, self._choices.dry)
        adopter, altered = (
            Adopter(self._files.images, placing, images.size, told=self._choices.size, below=below)
            for below in ("", f"{ALTERED}/")
        )
        refresh_s = int(self._settings.crawl.refresh_days * DAY_S)
        rules = Rules(images.which, refresh_s, self._run.now)
        return ImageTakeover(
            catalog,
            files,
            (adopter, altered if self._choices.take_altered else None),
            rules,
            self._report,
            self._run.attempt,
        )

    def _tell_files(self, files: OldFiles) -> None:
        for fate, number in files.fates():
            self._report.read(SOURCE, number)
            if fate != CAME:
                self._report.lose(SOURCE, fate, number)

    def _take_rows(self, takeover: ImageTakeover, database: OldDatabase | None) -> None:
        if database is None or not database.has("image_status"):
            return
        total = database.count("image_status")
        self._report.read(source_of(database, "image_status"), total)
        read = 0

        def listings() -> Iterator[OldListing]:
            nonlocal read
            for one, number in self._listings_of_rows(database):
                read += number
                yield one

        takeover.take(
            listings(),
            "image_status",
            int(database.path.stat().st_mtime),
            lambda done: self._progress("image_status", read, total, f"{done:,} listings"),
        )

    def _listings_of_rows(self, database: OldDatabase) -> Iterator[tuple[OldListing, int]]:
        """Listings of `image_status`, each with the number of its rows."""
        role: Role = "image_status"
        complain = self._run.complain(database)
        rows = database.rows(role, _FIRST_IMAGE_FIRST, complain)
        for listing_id, group in groupby(rows, key=lambda row: row.get("listing_id")):
            same = list(group)
            where = f"{database.name(role)} {listing_id!r}"
            if not isinstance(listing_id, int) or listing_id <= 0:
                complain(role, where, "no listing id", len(same))
                continue
            try:
                yield read_rows(listing_id, same, self._settings.images.size), len(same)
            except BrokenEntry as broken:
                complain(role, where, str(broken), len(same))

    def _take_metadata(self, takeover: ImageTakeover, path: Path, scratch: Path) -> None:
        size = path.stat().st_size
        read = 0

        def tick(position: int) -> None:
            nonlocal read
            read += 1
            if read % _AT_ONCE == 0:
                self._progress(f"reading {path.name}", position, size, f"{read:,} entries")

        entries = read_metadata(path, self._settings.images.size, self._report, tick)
        with closing(SortedListings(scratch)) as listings:
            listings.add(entries)
            takeover.take(
                listings.by_id(),
                path.name,
                int(path.stat().st_mtime),
                lambda done: self._progress(f"listings of {path.name}", done, listings.count),
            )

    def _take_progress(self, catalog: sqlite3.Connection, path: Path | None) -> None:
        """Shops that the older tool read whole are due when they would have been due there."""
        if path is None:
            return
        told = read_progress(path, self._report)
        take_shops(catalog, told.shops, told.at or int(path.stat().st_mtime), self._run.now)
        self._report.count("shops that count as read", len(told.shops))
        if told.units:
            self._report.count("price intervals to be read again", told.units)
