"""`furnisync import`: takes an older tool's data over, without a call and without losing anything.

    image files ──> scratch list ─┐
    image_status ─────────────────┼──> catalogue        shops, listings, reviews ──> history
    image_metadata.json ─(sorted)─┘    (old_images)                               (old_history)
    sync_progress.json ──> shops that count as synced

Every stage adds only what is missing, so that a second import changes nothing and a killed one is
finished by the same command. A rehearsal does all of it but the writing.
"""

import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import groupby, islice
from pathlib import Path
from typing import Final, Protocol, TypeVar

import msgspec

from furnisync.catalog.image_folder import check_folder, identify, settle
from furnisync.catalog.schema import open_catalog
from furnisync.catalog.takeover import take_shops
from furnisync.clock import Clock
from furnisync.config import HomeFiles, ImageSize, Settings
from furnisync.database import transaction
from furnisync.errors import ConfigError, UserError
from furnisync.history.buyers import read_buyers
from furnisync.history.fields import Object
from furnisync.history.purge import purged_ids
from furnisync.history.schema import WAL_PAGES, open_history
from furnisync.history.selection import Selection
from furnisync.history.takeover import (
    Kind,
    OldShopState,
    OldSnapshots,
    take_reviews,
    take_shop_states,
    take_snapshots,
)
from furnisync.images.plan_file import load_plan
from furnisync.instance import single_instance
from furnisync.ops.old_adopt import Adopt, Adopter
from furnisync.ops.old_database import OldDatabase
from furnisync.ops.old_files import OldFiles
from furnisync.ops.old_forms import OldListing, read_rows
from furnisync.ops.old_history import OldHistory
from furnisync.ops.old_images import ImageTakeover, Rules
from furnisync.ops.old_sorting import SortedListings
from furnisync.ops.old_sources import Sources, read_metadata, read_progress
from furnisync.ops.takeover_report import Report

SCRATCH: Final = ".import"
DAY_S: Final = 86_400
_AT_ONCE: Final = 1000
_FIRST_IMAGE_FIRST: Final = ("listing_id", "is_primary DESC", "image_id")

T = TypeVar("T")


class Progress(Protocol):
    """Shows how far a stage is."""

    def __call__(self, stage: str, done: int, total: int | None, note: str = "") -> None:
        """So much of a stage is done, in its own unit."""
        ...


class Choices(msgspec.Struct, frozen=True):
    """What the command line asked for.

    Attributes:
        adopt: what becomes of the image files.
        size: the CDN size that the older tool fetched; None: told by each picture.
        reread_reviews: do not trust that the older tool read all reviews.
        dry: only tell what would happen.
    """

    adopt: Adopt = "place"
    size: ImageSize | None = None
    reread_reviews: bool = False
    dry: bool = False


class Takeover:
    """One import into a home."""

    def __init__(
        self,
        files: HomeFiles,
        settings: Settings,
        choices: Choices,
        clock: Clock,
        report: Report,
        progress: Progress,
    ) -> None:
        self._files = files
        self._settings = settings
        self._choices = choices
        self._now = int(clock.now())
        self._report = report
        self._progress = progress

    def run(self, sources: Sources) -> None:
        """Take all of it over; neither sync may run meanwhile.

        Raises:
            UserError: a sync runs, a source is none, the disk is full.
        """
        with ExitStack() as stack:
            stack.enter_context(single_instance(self._files.lock("images"), "image sync"))
            stack.enter_context(single_instance(self._files.lock("data"), "data sync"))
            scratch = stack.enter_context(_scratch(self._files.home / SCRATCH))
            database = None
            if sources.database is not None:
                database = stack.enter_context(closing(OldDatabase(sources.database)))
            try:
                self._take_plan(sources.plan)
                self._take_images(sources, database, scratch)
                if database is not None:
                    self._take_history(database, scratch)
            except (sqlite3.DatabaseError, OSError) as error:
                raise UserError(
                    f"The import into {self._files.home} stopped ({error}): mend that, free some"
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
            shutil.copyfile(plan, self._files.plan)

    def _take_images(self, sources: Sources, database: OldDatabase | None, scratch: Path) -> None:
        with ExitStack() as stack:
            files = stack.enter_context(closing(OldFiles(scratch / "files.db")))
            for folder in sources.images:
                files.find(
                    folder.resolve(),
                    lambda where, why: self._report.leave_out("unreadable", where, where, why),
                    lambda found: self._progress("finding image files", found, None),
                )
            files.index()
            path = self._files.catalog
            if self._choices.dry and not path.exists():
                path = scratch / path.name
            catalog = stack.enter_context(closing(open_catalog(path)))
            catalog.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
            self._prepare_folder(catalog)
            takeover = self._image_takeover(catalog, files)
            self._take_rows(takeover, database)
            self._take_metadata(takeover, sources.metadata, scratch)
            takeover.take_left_over(
                lambda done: self._progress("image files that nothing told of", done, None)
            )
            self._attempt(catalog, lambda: self._take_progress(catalog, sources.progress))

    def _prepare_folder(self, catalog: sqlite3.Connection) -> None:
        """Adopted files go into this home's own folder, or nowhere."""
        check_folder(catalog, self._files)
        if not self._choices.dry:
            with transaction(catalog):
                settle(catalog, self._files, identify(catalog, self._files))

    def _image_takeover(self, catalog: sqlite3.Connection, files: OldFiles) -> ImageTakeover:
        images = self._settings.images
        adopter = Adopter(
            self._files.images,
            self._choices.adopt,
            images.size,
            told=self._choices.size,
            max_pixels=images.max_pixels,
            dry=self._choices.dry,
        )
        refresh_s = int(self._settings.crawl.refresh_days * DAY_S)
        rules = Rules(images.which, refresh_s, self._now)
        return ImageTakeover(catalog, files, adopter, rules, self._report, self._attempt)

    def _take_rows(self, takeover: ImageTakeover, database: OldDatabase | None) -> None:
        if database is None or not database.has("image_status"):
            return
        total = database.count("image_status")
        read = 0

        def listings() -> Iterator[OldListing]:
            nonlocal read
            rows = database.rows("image_status", _FIRST_IMAGE_FIRST, self._complain(database))
            for listing_id, group in groupby(rows, key=lambda row: row.get("listing_id")):
                same = list(group)
                read += len(same)
                if isinstance(listing_id, int) and listing_id > 0:
                    yield read_rows(listing_id, same, self._settings.images.size)
                else:
                    self._complain(database)(f"image_status {listing_id!r}", "no listing id")

        takeover.take(
            listings(),
            "image_status",
            int(database.path.stat().st_mtime),
            lambda done: self._progress("image_status", read, total, f"{done:,} listings"),
        )

    def _take_metadata(self, takeover: ImageTakeover, path: Path | None, scratch: Path) -> None:
        if path is None:
            return
        size = path.stat().st_size
        read = 0

        def tick(position: int) -> None:
            nonlocal read
            read += 1
            if read % _AT_ONCE == 0:
                self._progress(f"reading {path.name}", position, size, f"{read:,} entries")

        entries = read_metadata(path, self._settings.images.size, self._report, tick)
        with closing(SortedListings(scratch / "entries.db")) as listings:
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
        take_shops(catalog, told.shops, told.at or int(path.stat().st_mtime), self._now)
        self._report.count("shops that count as read", len(told.shops))
        if told.units:
            self._report.count("price intervals to be read again", told.units)

    # -- history -------------------------------------------------------------------------------

    def _take_history(self, database: OldDatabase, scratch: Path) -> None:
        data = self._settings.data
        written_at = int(database.path.stat().st_mtime)
        old = OldHistory(database, written_at, self._complain(database))
        for column in old.unknown_columns():
            reason = "a column that is none of the fields of Etsy's API"
            self._report.leave_out("columns left behind", database.path.name, column, reason)
        selection = old.widened(
            Selection.of(
                data.shop_fields,
                data.listing_fields,
                data.review_fields,
                read_buyers(self._files.buyer_key, data.buyer_user_id),
            )
        )
        # Even a rehearsal would add columns: it fills an empty history instead.
        path = scratch / "history.db" if self._choices.dry else self._files.history
        with closing(open_history(path, selection)) as history:
            self._take_snapshots(history, selection, old, database, "shops")
            self._take_snapshots(history, selection, old, database, "listings")
            self._take_reviews(history, selection, old, database)
            # Last of all: a shop counts as synced only once all of it is here.
            self._take_states(history, OldHistory(database, written_at, lambda *_: None))

    def _take_snapshots(
        self,
        history: sqlite3.Connection,
        selection: Selection,
        old: OldHistory,
        database: OldDatabase,
        kind: Kind,
    ) -> None:
        done, total = 0, database.count(f"{kind}_dynamic")
        purged = purged_ids(history, "shop")  # rows of a listing over time do not name its shop
        for chunk in _chunks(old.snapshots(kind)):

            def take(chunk: list[OldSnapshots] = chunk) -> None:
                chunk = [one for one in chunk if one.shop_id not in purged]
                static, dynamic = take_snapshots(history, selection, kind, chunk)
                self._report.count(f"rows of {kind}", static)
                self._report.count(f"rows of {kind}_dynamic", dynamic)

            self._attempt(history, take)
            done += sum(len(one.dynamic) for one in chunk)
            self._progress(f"{kind} over time", done, total)

    def _take_reviews(
        self,
        history: sqlite3.Connection,
        selection: Selection,
        old: OldHistory,
        database: OldDatabase,
    ) -> None:
        done, total = 0, database.count("reviews")
        for chunk in _chunks(old.reviews()):

            def take(chunk: list[tuple[int, Object]] = chunk) -> None:
                self._report.count("rows of reviews", take_reviews(history, selection, chunk))

            self._attempt(history, take)
            done += len(chunk)
            self._progress("reviews", done, total)

    def _take_states(self, history: sqlite3.Connection, old: OldHistory) -> None:
        reread = self._choices.reread_reviews
        for chunk in _chunks(old.snapshots("shops")):
            states = [old.shop_state(shop, reread_reviews=reread) for shop in chunk]

            def take(states: list[OldShopState | None] = states) -> None:
                told = [state for state in states if state is not None]
                self._report.count("shops that count as synced", take_shop_states(history, told))

            self._attempt(history, take)

    # -- common --------------------------------------------------------------------------------

    def _complain(self, database: OldDatabase) -> Callable[[str, str], None]:
        def complain(where: str, why: str) -> None:
            damaged = why.startswith("the file is damaged")
            what = "damaged sources" if damaged else "broken rows"
            self._report.leave_out(what, database.path.name, where, why)

        return complain

    def _attempt(self, connection: sqlite3.Connection, work: Callable[[], None]) -> None:
        """Run work as one transaction; a rehearsal takes it back."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            work()
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        connection.execute("ROLLBACK" if self._choices.dry else "COMMIT")


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder for lists that are of no use afterwards; what a killed import left there goes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _chunks(items: Iterator[T]) -> Iterator[list[T]]:
    while chunk := list(islice(items, _AT_ONCE)):
        yield chunk
