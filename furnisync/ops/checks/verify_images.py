"""Compares image rows with image files, in both directions, in constant memory.

A sync may run meanwhile. It stores a file first and commits its row up to a second later. So what
looks wrong is checked again, row and file, before it is reported: once if no sync runs, else until
the two agree or `SETTLE_S` has passed.
"""

import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, Literal, NamedTuple, TypeVar

import msgspec

from furnisync.catalog import image_queue
from furnisync.image_job import ReasonCode
from furnisync.store.folder import FolderStore

PAGE: Final = 1000
SETTLE_S: Final = 30.0
CHECK_EVERY_S: Final = 0.2
SUSPECTS_MAX: Final = 500
CHUNK_BYTES: Final = 1 << 20

Damage = Literal["missing", "truncated", "changed", "unreadable", "extra"]
REPAIRABLE: Final[tuple[Damage, ...]] = ("missing", "truncated", "changed")


class ImageTrouble(msgspec.Struct, frozen=True):
    """Something wrong; ids if it is about a row, `file` relative to the image folder.

    An altered picture cannot be downloaded again: Etsy has only its original.
    """

    kind: Damage
    file: str | None
    listing_id: int | None = None
    image_id: int | None = None
    detail: str = ""
    altered: bool = False

    @property
    def repairable(self) -> bool:
        """Whether the next sync can bring it back."""
        return self.kind in REPAIRABLE and not self.altered


class ImageRow(NamedTuple):
    """What the catalog says about a file."""

    listing_id: int
    image_id: int
    file: str | None
    size_bytes: int | None
    sha256: bytes | None


Table = Literal["images", "altered_images"]
_ROW: Final = "SELECT listing_id, image_id, file, bytes, sha256 FROM"
_WITH_FILE: Final[dict[Table, str]] = {
    "images": "(file IS NOT NULL OR status = 'done')",
    "altered_images": "file IS NOT NULL",
}
_ALTERED_REMEDY: Final = "altered picture: `furnisync import --take-altered` brings it back"
_KEY: Final = "(listing_id, image_id)"

S = TypeVar("S")
Found = tuple[S, ImageTrouble]
"""A row or file as it is now, and what is wrong with it."""


class ImageCheck:
    """Checks one home's images; `step` gets how many more rows or files were checked."""

    def __init__(
        self,
        catalog: sqlite3.Connection,
        store: FolderStore,
        *,
        sha256: bool,
        sync_runs: Callable[[], bool],
        step: Callable[[int], None],
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._sha256 = sha256
        self._sync_runs = sync_runs
        self._step = step

    # -- rows against files --------------------------------------------------------------------

    def check_rows(self, table: Table = "images") -> Iterator[ImageTrouble]:
        """Every row that has a file: is it there, as long, and (with sha256) equal to the byte?"""

        def check(row: ImageRow) -> ImageTrouble | None:
            return self._check_row(row, table)

        def check_again(row: ImageRow) -> Found[ImageRow] | None:
            """The row as it is now; nothing if it was deleted or waits for another download."""
            rows = self._rows(table, f"{_KEY} = (?, ?)", (row.listing_id, row.image_id))
            trouble = check(rows[0]) if rows else None
            return None if trouble is None else (rows[0], trouble)

        yield from self._check(self._pages_of_rows(table), check, check_again)

    def _pages_of_rows(self, table: Table) -> Iterator[list[ImageRow]]:
        """Short reads: a long one would let the log of a running sync grow."""
        after = (-1, -1)
        while rows := self._rows(table, f"{_KEY} > (?, ?)", after):
            yield rows
            after = (rows[-1].listing_id, rows[-1].image_id)

    def _rows(self, table: Table, condition: str, key: tuple[int, int]) -> list[ImageRow]:
        rows = self._catalog.execute(
            f"{_ROW} {table} WHERE {condition} AND {_WITH_FILE[table]}"
            f" ORDER BY listing_id, image_id LIMIT {PAGE}",
            key,
        )
        return [ImageRow(*row) for row in rows]

    def _check_row(self, row: ImageRow, table: Table) -> ImageTrouble | None:
        """What is wrong with the file of a row; None if nothing is."""
        try:
            found = self._check_file(row)
        except FileNotFoundError:
            found = ("missing", "")
        except (OSError, ValueError) as error:
            found = ("unreadable", str(error))
        if found is None:
            return None
        damage, detail = found
        altered = table == "altered_images"
        detail = ", ".join(filter(None, (detail, _ALTERED_REMEDY if altered else "")))
        return ImageTrouble(damage, row.file, row.listing_id, row.image_id, detail, altered)

    def _check_file(self, row: ImageRow) -> tuple[Damage, str] | None:
        if row.file is None:
            return "missing", "its row is done and names no file"
        found = self._store.stat(row.file)
        if found is None:
            return "missing", ""
        if row.size_bytes is not None and found.size_bytes != row.size_bytes:
            damage: Damage = "truncated" if found.size_bytes < row.size_bytes else "changed"
            return damage, f"{found.size_bytes:,} of {row.size_bytes:,} bytes"
        if self._sha256 and row.sha256 is not None and self._digest(row.file) != row.sha256:
            return "changed", "another sha256"
        return None

    def _digest(self, file: str) -> bytes:
        with self._store.open(file) as content:
            digest = hashlib.sha256()
            while chunk := content.read(CHUNK_BYTES):
                digest.update(chunk)
            return digest.digest()

    # -- files against rows --------------------------------------------------------------------

    def check_files(self) -> Iterator[ImageTrouble]:
        """Files that no row names. Hidden and partly written ones are left out."""

        def check(file: str) -> ImageTrouble | None:
            return None if self._is_known(file) else ImageTrouble("extra", file)

        def check_again(file: str) -> Found[str] | None:
            trouble = check(file) if self._store.stat(file) is not None else None
            return None if trouble is None else (file, trouble)

        yield from self._check(self._pages_of_files(), check, check_again)

    def _pages_of_files(self) -> Iterator[list[str]]:
        files = _walk(os.fspath(self._store.root), "")
        while page := list(islice(files, PAGE)):
            yield page

    def _is_known(self, file: str) -> bool:
        """Whether a row names it, or waits for it: a killed run leaves files without their row."""
        number = file.rpartition("/")[2].partition(".")[0].partition("_")[0]
        if not (number.isascii() and number.isdecimal()) or len(number) > 18:
            return False
        rows = self._catalog.execute(
            "SELECT 1 FROM images WHERE listing_id = ? AND (file = ? OR next_try IS NOT NULL AND"
            " ? GLOB printf('%03d/%d_%d.*', listing_id % 1000, listing_id, image_id))"
            " UNION ALL SELECT 1 FROM altered_images WHERE listing_id = ? AND file = ?",
            (int(number), file, file, int(number), file),
        )
        return rows.fetchone() is not None

    # -- both ----------------------------------------------------------------------------------

    def _check(
        self,
        pages: Iterator[list[S]],
        check: Callable[[S], ImageTrouble | None],
        check_again: Callable[[S], Found[S] | None],
    ) -> Iterator[ImageTrouble]:
        suspects: list[S] = []
        for page in pages:
            suspects += [one for one in page if check(one) is not None]
            if len(suspects) >= SUSPECTS_MAX:
                yield from self._settle(suspects, check_again)
                suspects = []
            self._step(len(page))
        yield from self._settle(suspects, check_again)

    def _settle(
        self, suspects: list[S], check_again: Callable[[S], Found[S] | None]
    ) -> Iterator[ImageTrouble]:
        """Check again, until a running sync had time to commit what it has just stored."""
        end = time.monotonic() + SETTLE_S
        while suspects:
            wrong = [found for one in suspects if (found := check_again(one)) is not None]
            if not self._sync_runs() or time.monotonic() > end:
                yield from (trouble for _, trouble in wrong)
                return
            suspects = [one for one, _ in wrong]
            time.sleep(CHECK_EVERY_S)


def _walk(folder: str, below: str) -> Iterator[str]:
    """Files below a folder, relative and with `/`; never all names in memory at once."""
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path, f"{below}{entry.name}/")
            else:
                yield f"{below}{entry.name}"


def requeue_troubles(
    connection: sqlite3.Connection, troubles: list[ImageTrouble], now: int
) -> None:
    """Let the next run download these images again."""
    images = [
        (one.listing_id, one.image_id)
        for one in troubles
        if one.listing_id is not None and one.image_id is not None
    ]
    image_queue.requeue(connection, images, ReasonCode.NOT_AS_RECORDED, now)
