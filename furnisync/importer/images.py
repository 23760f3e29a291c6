"""Old listings and image files become rows of the catalogue, a piece at a time.

    entries ──2000─> files and rows known of them ──threads──> checked, placed ──> transaction
                                                      then the old names of moved files go <──┘

A piece is decided from what lies there, never from what a run before noted, so that a run that was
killed is simply repeated: what is done is recognised and costs no second reading.
"""

import itertools
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import msgspec

from furnisync.catalog.altered import (
    AlteredImage,
    known_altered,
    take_altered,
)
from furnisync.catalog.image_queue import Which
from furnisync.catalog.imported import (
    KnownImage,
    TakenImage,
    TakenListing,
    give_back,
    held_originals,
    known_images,
    known_listings,
    look_at_sizes_again,
    take_images,
    take_listings,
)
from furnisync.catalog.purge import purged_among
from furnisync.image_job import ReasonCode
from furnisync.importer.adopt import Adopter, Refused
from furnisync.importer.files import OldFile, OldFiles
from furnisync.importer.metadata_forms import OldImage, OldListing
from furnisync.importer.report import Report
from furnisync.importer.tasks import Task, altered_row, fates, kind, mistaken_originals

CHUNK: Final = 2000
THREADS: Final = 4
SOURCE: Final = "image files"
"""What the files by themselves are called where sources are told of."""
_NO_ID: Final = "no image id is known for it; it stays where it lies"
_GONE: Final = "404"

Attempt = Callable[[sqlite3.Connection, Callable[[], None]], None]
"""Runs work in a transaction, and keeps it unless the run is a rehearsal."""


class Rules(msgspec.Struct, frozen=True):
    """What decides a row: the settings, and the time (unix seconds)."""

    which: Which
    refresh_s: int
    now: int


class ImageTakeover:
    """Takes listings over into an open catalogue."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        files: OldFiles,
        adopters: tuple[Adopter, Adopter | None],
        rules: Rules,
        report: Report,
        attempt: Attempt,
    ) -> None:
        """Make it; `adopters` are for originals and for altered pictures, None leaves these."""
        self._connection = connection
        self._files = files
        self._adopter, self._altered = adopters
        self._rules = rules
        self._report = report
        self._attempt = attempt

    def take(
        self,
        listings: Iterable[OldListing],
        source: str,
        told_at: int,
        progress: Callable[[int], None],
    ) -> None:
        """Take over what a source tells.

        Args:
            listings: streamed.
            source: its name, for the report.
            told_at: when it was written, unix seconds.
            progress: takes the number of listings from time to time.
        """
        taken = 0
        with ThreadPoolExecutor(THREADS, thread_name_prefix="adopt") as pool:
            for chunk in _chunks(listings):
                self._take_chunk(chunk, source, told_at, pool)
                taken += len(chunk)
                progress(taken)

    def take_left_over(self, progress: Callable[[int], None]) -> None:
        """Take over the files that no source told of."""
        listings = (OldListing(listing_id) for listing_id, _ in self._files.left_over())
        self.take(listings, SOURCE, 0, progress)

    def _take_chunk(
        self, chunk: list[OldListing], source: str, told_at: int, pool: ThreadPoolExecutor
    ) -> None:
        ids = {one.listing_id for one in chunk}
        files = self._files.of(ids)
        self._give_back(files)
        old = known_listings(self._connection, ids)
        purged = self._purged(chunk, source)
        tasks = self._all_tasks([one for one in chunk if one.listing_id not in purged], files)
        for one in chunk:
            for reason in one.broken if one.listing_id not in purged else ():
                self._report.leave_out("broken images", source, one.listing_id, reason)
        list(pool.map(self._settle, tasks))
        listings = [self._listing(one, told_at) for one in chunk if source != SOURCE]
        listings += _listings_of_files(chunk, tasks) if source == SOURCE else []
        self._attempt(self._connection, partial(self._commit, listings, tasks))
        for task in tasks:
            for path, name in task.moved:
                if self._adopter_of(task).forget_old_name(path, name):
                    self._report.count("files moved")
        self._files.mark_used([file for group in files.values() for file in group])
        new = {one.listing_id for one in listings} - old - purged
        self._count(tasks, new=len(new), all_of=len(ids - purged))

    def _give_back(self, files: dict[int, list[OldFile]]) -> None:
        """Versions before this one took altered pictures for originals."""
        ids = {key for key, group in files.items() if any(file.altered for file in group)}
        mistaken = mistaken_originals(held_originals(self._connection, ids), files)
        if mistaken:
            now = self._rules.now
            self._attempt(self._connection, partial(give_back, self._connection, mistaken, now))
            self._report.count(
                "images to be fetched anew, as an altered one stood for them", len(mistaken)
            )

    def _all_tasks(self, chunk: list[OldListing], files: dict[int, list[OldFile]]) -> list[Task]:
        ids = {one.listing_id for one in chunk}
        known = known_images(self._connection, ids)
        altered = known_altered(self._connection, ids) if self._altered else {}
        tasks: list[Task] = []
        for one in chunk:
            mine = files.get(one.listing_id, [])
            tasks += self._tasks(one, mine, known.get(one.listing_id, {}))
            if self._altered is not None:
                tasks += self._altered_tasks(one, mine, altered, self._altered)
        return tasks

    def _commit(self, listings: list[TakenListing], tasks: list[Task]) -> None:
        images = [row for task in tasks if (row := self._row(task)) is not None]
        take_listings(self._connection, listings, self._rules.now)
        take_images(self._connection, images)
        take_altered(
            self._connection,
            [altered_row(task) for task in tasks if task.altered and task.adopted],
        )
        if any(task.adopted and not task.altered for task in tasks):
            look_at_sizes_again(self._connection)

    def _purged(self, chunk: list[OldListing], source: str) -> frozenset[int]:
        """What the user wanted gone: its rows are refused by the catalogue, its files by us."""
        purged = purged_among(self._connection, {one.listing_id: one.shop_id for one in chunk})
        for listing_id in sorted(purged):
            reason = "was purged from this home; its files stay where they lie"
            self._report.leave_out("listings purged here", source, listing_id, reason)
        return purged

    # -- deciding ------------------------------------------------------------------------------

    def _tasks(
        self, one: OldListing, files: list[OldFile], known: dict[int, KnownImage]
    ) -> Iterator[Task]:
        """The listing's images, each with its files; a name with an id that nobody told is one."""
        real = [file for file in files if not file.is_placeholder]
        self._report.count("placeholders", len(files) - len(real))
        real = [file for file in real if not file.altered]
        by_id: dict[int | None, list[OldFile]] = {}
        for file in real:
            by_id.setdefault(file.image_id, []).append(file)
        nameless = by_id.pop(None, [])
        for place, image in enumerate(one.images):
            mine = by_id.pop(image.image_id, []) + (nameless if place == 0 else [])
            yield Task(one.listing_id, image, mine, known.get(image.image_id))
        if not one.images:
            held = {row.file for row in known.values()}
            self._leave_nameless(
                [file for file in nameless if self._adopter.own_name(file) not in held]
            )
        ranks = itertools.count(1 + self._last_rank(one, known))
        for image_id, mine in by_id.items():
            assert image_id is not None
            now = known.get(image_id)
            image = OldImage(image_id, now.rank if now else next(ranks))
            yield Task(one.listing_id, image, mine, now)

    def _altered_tasks(
        self,
        one: OldListing,
        files: list[OldFile],
        known: dict[tuple[int, int], AlteredImage],
        adopter: Adopter,
    ) -> Iterator[Task]:
        """The altered pictures of the listing; a name without an image id is the first image."""
        by_id: dict[int | None, list[OldFile]] = {}
        first = one.images[0].image_id if one.images else None
        for file in files:
            if file.altered and not file.is_placeholder:
                by_id.setdefault(file.image_id or first, []).append(file)
        held = {row.file for row in known.values()}
        nameless = by_id.pop(None, [])
        self._leave_nameless([file for file in nameless if adopter.own_name(file) not in held])
        for image_id, mine in by_id.items():
            assert image_id is not None
            row = known.get((one.listing_id, image_id))
            here = None
            if row is not None and adopter.holds(row.file):  # one that was lost is taken anew
                here = KnownImage(row.file, row.sha256, 1, has_url=False)
            yield Task(one.listing_id, OldImage(image_id, 1), mine, here, altered=True)

    def _leave_nameless(self, files: list[OldFile]) -> None:
        for file in files:
            self._report.leave_out("files without an image id", file.path, file.path, _NO_ID)
        self._files.mark_fates((file, _NO_ID) for file in files)

    @staticmethod
    def _last_rank(one: OldListing, known: dict[int, KnownImage]) -> int:
        ranks = [image.rank for image in one.images] + [image.rank for image in known.values()]
        return max(ranks, default=0)

    def _settle(self, task: Task) -> None:
        """Find the file that is the image; runs in a thread of the pool."""
        adopter = self._adopter_of(task)
        task.refused, task.doubles, task.moved = [], [], []
        held = task.known.file if task.known else None
        sha256 = task.known.sha256 if task.known else None
        for file in task.files:
            try:
                if held is None:
                    task.adopted = adopter.adopt(file, task.image.image_id)
                    held, sha256 = task.adopted.file, task.adopted.sha256
                    if task.adopted.moved_from is not None:
                        task.moved.append((task.adopted.moved_from, held))
                elif adopter.is_moved(file, held, sha256):
                    task.moved.append((file.path, held))
                elif not adopter.is_held(file, held):
                    task.doubles.append(file)
            except Refused as refused:
                task.refused.append((file, str(refused)))

    def _adopter_of(self, task: Task) -> Adopter:
        if not task.altered:
            return self._adopter
        assert self._altered is not None
        return self._altered

    def _listing(self, one: OldListing, told_at: int) -> TakenListing:
        rules = self._rules
        if one.word is not None:
            state = "gone" if one.word == _GONE else None
            return TakenListing(one.listing_id, one.shop_id, state, reason=one.word)
        all_known = one.complete or (rules.which == "primary" and bool(one.images))
        addressed = all(image.url or image.gone for image in one.images)
        due = told_at + rules.refresh_s
        if all_known and addressed and due > rules.now:
            return TakenListing(one.listing_id, one.shop_id, "active", told_at, due)
        return TakenListing(one.listing_id, one.shop_id, batched_at=told_at)

    def _row(self, task: Task) -> TakenImage | None:
        image, key = task.image, (task.listing_id, task.image.image_id)
        if task.altered:
            return None
        if (adopted := task.adopted) is not None:
            return TakenImage(
                *key,
                image.rank,
                image.url,
                "done",
                file=adopted.file,
                size=adopted.size,
                size_bytes=adopted.size_bytes,
                width=adopted.width,
                height=adopted.height,
                sha256=adopted.sha256,
                done_at=adopted.stored_at,
            )
        if image.gone:
            return TakenImage(*key, image.rank, image.url, "gone", reason=ReasonCode.GONE_AT_IMPORT)
        if not image.url:
            return None
        if self._rules.which == "primary" and image.rank > 1:
            return TakenImage(*key, image.rank, image.url, "unwanted")
        return TakenImage(*key, image.rank, image.url, "pending", next_try=self._rules.now)

    # -- telling -------------------------------------------------------------------------------

    def _count(self, tasks: list[Task], *, new: int, all_of: int) -> None:
        report = self._report
        self._files.mark_fates(fate for task in tasks for fate in fates(task))
        if self._adopter.moves:  # what a run before has moved is not among the files any more
            moved = sum(bool(task.known and task.known.file and not task.files) for task in tasks)
            report.read(SOURCE, moved)
        report.count("listings new", new)
        report.count("listings known", all_of - new)
        for task in tasks:
            for file, reason in task.refused:
                report.leave_out("files refused", file.path, file.path, reason)
            for file in task.doubles:
                reason = f"image {task.image.image_id} is here already"
                report.leave_out("files not needed", file.path, file.path, reason)
            report.count(kind(task))


def _listings_of_files(chunk: list[OldListing], tasks: list[Task]) -> list[TakenListing]:
    """Only files that were adopted make a listing known: their names are all that tells of it."""
    adopted = {task.listing_id for task in tasks if task.adopted}
    return [TakenListing(one.listing_id, None) for one in chunk if one.listing_id in adopted]


def _chunks(listings: Iterable[OldListing]) -> Iterator[list[OldListing]]:
    iterator = iter(listings)
    while chunk := list(itertools.islice(iterator, CHUNK)):
        yield chunk
