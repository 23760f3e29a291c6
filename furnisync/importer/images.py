"""The older tool's listings and image files become rows of the catalog, chunk by chunk.

    listings ──2000─> files and rows known of them ──threads──> checked, placed ──> transaction
                                                     then the old names of moved files go <──┘

A chunk is decided from what is there, never from what an earlier run noted. So a run that was
killed is simply repeated: what is done is recognised and not read again.
"""

import itertools
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from furnisync.catalog.image_queue import queue_state
from furnisync.catalog.imported import (
    ImportedImage,
    ImportedListing,
    KnownImage,
    forget_wanted_size,
    import_altered,
    import_images,
    import_listings,
    known_altered,
    known_images,
    known_listings,
    requeue_replaced,
)
from furnisync.catalog.purge import purged_among
from furnisync.clock import DAY_S
from furnisync.image_job import ReasonCode
from furnisync.importer.adopt import Adopter
from furnisync.importer.files import IMAGE_FILES, SEEN, FileList, SourceFile
from furnisync.importer.metadata_forms import SourceImage, SourceListing
from furnisync.importer.report import Reason
from furnisync.importer.run import Run, chunks
from furnisync.importer.tasks import Task, replaced_by_altered

_CHUNK: Final = 2000
_THREADS: Final = 4
_GONE: Final = "404"

_Files = dict[int, list[SourceFile]]


class ImageImport:
    """Adds listings and their files to an open catalog."""

    def __init__(self, run: Run, catalog: sqlite3.Connection, files: FileList) -> None:
        self._run = run
        self._report = run.report
        self._catalog = catalog
        self._files = files
        self._originals = Adopter(run, altered=False)
        self._altered = Adopter(run, altered=True) if run.choices.take_altered else None

    def add(
        self,
        listings: Iterable[SourceListing],
        source: str,
        written_at: int,
        progress: Callable[[int], None],
    ) -> None:
        """Import the listings of a source.

        Args:
            listings: streamed.
            source: its name, for the report.
            written_at: when it was written, unix seconds.
            progress: takes the number of listings from time to time.
        """
        done = 0
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="adopt") as pool:
            for chunk in chunks(listings, _CHUNK):
                self._add_chunk(chunk, source, written_at, pool)
                done += len(chunk)
                progress(done)

    def add_rest(self, progress: Callable[[int], None]) -> None:
        """Import the files of listings that no source named."""
        listings = (SourceListing(listing_id) for listing_id in self._files.without_outcome())
        self.add(listings, IMAGE_FILES, 0, progress)

    def _add_chunk(
        self, chunk: list[SourceListing], source: str, written_at: int, pool: ThreadPoolExecutor
    ) -> None:
        purged = self._purged(chunk, source)
        files = self._files.of([one.listing_id for one in chunk])
        self._files.mark((file, SEEN, "") for group in files.values() for file in group)
        chunk = [one for one in chunk if one.listing_id not in purged]
        for one in chunk:
            for image in one.broken:
                where = (source, one.listing_id)
                self._report.leave_out("broken images", where, Reason.NO_IMAGE_ID, image)
        tasks = self._tasks(chunk, files)
        list(pool.map(Task.settle, tasks))
        if source == IMAGE_FILES:  # only an adopted file makes its listing known
            adopted = {task.listing_id for task in tasks if task.adopted}
            rows = [ImportedListing(listing_id, None) for listing_id in sorted(adopted)]
        else:
            rows = [self._listing(one, written_at) for one in chunk]
        ids = {row.listing_id for row in rows}
        known = known_listings(self._catalog, ids)
        self._commit(rows, tasks)
        self._report.count("listings new", len(ids - known))
        self._report.count("listings known", len(known))

    def _purged(self, chunk: list[SourceListing], source: str) -> frozenset[int]:
        """Listings that the user purged: the catalog refuses their rows, and we their files."""
        purged = purged_among(self._catalog, {one.listing_id: one.shop_id for one in chunk})
        for listing_id in sorted(purged):
            where = (source, listing_id)
            self._report.leave_out("listings purged here", where, Reason.PURGED_HERE)
        return purged

    # -- what a listing has --------------------------------------------------------------------

    def _tasks(self, chunk: list[SourceListing], files: _Files) -> list[Task]:
        ids = [one.listing_id for one in chunk]
        known = known_images(self._catalog, ids)
        if replaced := replaced_by_altered(known, files):
            with self._run.transaction(self._catalog):
                requeue_replaced(self._catalog, replaced, self._run.now)
            label = "images to be fetched again, as an altered one was in their place"
            self._report.count(label, len(replaced))
            known = known_images(self._catalog, ids)
        altered = known_altered(self._catalog, ids) if self._altered else {}
        tasks: list[Task] = []
        for one in chunk:
            group = files.get(one.listing_id, [])
            originals = [file for file in group if not file.altered]
            tasks += self._tasks_of(one, originals, known.get(one.listing_id, {}), self._originals)
            if self._altered is not None:
                changed = [file for file in group if file.altered]
                rows = altered.get(one.listing_id, {}) if changed else {}
                # One whose file was lost is imported again.
                here = {
                    key: row for key, row in rows.items() if self._altered.holds(row.file or "")
                }
                tasks += self._tasks_of(one, changed, here, self._altered)
        return tasks

    def _tasks_of(
        self,
        one: SourceListing,
        files: list[SourceFile],
        known: dict[int, KnownImage],
        adopter: Adopter,
    ) -> Iterator[Task]:
        """The listing's images with their files; an id in a file's name is an image too.

        A name without an image id is the first image.
        """
        first = one.images[0].image_id if one.images else None
        by_id: dict[int | None, list[SourceFile]] = {}
        for file in files:
            by_id.setdefault(file.image_id or first, []).append(file)
        held = {row.file for row in known.values()}
        self._files.mark(
            (file, Reason.UNKNOWN_IMAGE_ID, "it stays where it is")
            for file in by_id.pop(None, [])
            if adopter.own_name(file) not in held
        )
        for image in () if adopter.altered else one.images:
            mine = by_id.pop(image.image_id, [])
            yield Task(one.listing_id, image, mine, known.get(image.image_id), adopter)
        ranks_here = [image.rank for image in one.images] + [row.rank for row in known.values()]
        ranks = itertools.count(1 + max(ranks_here, default=0))
        for image_id, mine in by_id.items():
            assert image_id is not None
            row = known.get(image_id)
            image = SourceImage(image_id, row.rank if row else next(ranks))
            yield Task(one.listing_id, image, mine, row, adopter)

    # -- rows ----------------------------------------------------------------------------------

    def _listing(self, one: SourceListing, written_at: int) -> ImportedListing:
        if one.word is not None:
            state = "gone" if one.word == _GONE else None
            return ImportedListing(one.listing_id, one.shop_id, state, reason=one.word)
        which = self._run.settings.images.which
        all_known = one.complete or (which == "primary" and bool(one.images))
        with_urls = all(image.url or image.gone for image in one.images)
        due = written_at + int(self._run.settings.crawl.refresh_days * DAY_S)
        if all_known and with_urls and due > self._run.now:
            return ImportedListing(one.listing_id, one.shop_id, "active", written_at, due)
        return ImportedListing(one.listing_id, one.shop_id, batched_at=written_at)

    def _image(self, task: Task) -> ImportedImage | None:
        if task.adopted is not None:
            return task.row("done", None, None)
        if task.image.gone:
            return task.row("gone", None, ReasonCode.GONE_AT_IMPORT)
        if not task.image.url:
            return None
        which, is_first = self._run.settings.images.which, task.image.rank <= 1
        return task.row(*queue_state(which, self._run.now, is_first=is_first), None)

    def _commit(self, listings: list[ImportedListing], tasks: list[Task]) -> None:
        originals = [task for task in tasks if not task.adopter.altered]
        images = [row for task in originals if (row := self._image(task)) is not None]
        altered = [
            (task.listing_id, task.image.image_id, task.adopted)
            for task in tasks
            if task.adopter.altered and task.adopted
        ]
        with self._run.transaction(self._catalog):
            import_listings(self._catalog, listings, self._run.now)
            import_images(self._catalog, images)
            import_altered(self._catalog, altered)
            if any(task.adopted for task in originals):
                forget_wanted_size(self._catalog)
        self._files.mark(outcome for task in tasks for outcome in task.outcomes)
        for task in tasks:
            self._report.count(task.label)
            for path, name in task.moved:
                if task.adopter.remove_old_name(path, name):
                    self._report.count("files moved")
            if (
                self._run.choices.adopt == "move"
                and task.known
                and task.known.file
                and not task.files
            ):
                self._report.read(IMAGE_FILES)  # an earlier run moved its file
