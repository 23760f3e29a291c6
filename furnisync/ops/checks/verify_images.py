"""Image rows held against image files, in both directions, at any size in the same memory.

A sync may run meanwhile. It puts a file first and commits its row up to a second later, so what
looks wrong is looked at again, row and file, before it is said: at once where nothing runs,
until the two agree or `SETTLE_S` has passed where a sync runs.
"""

import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Final, Literal, NamedTuple

import msgspec

from furnisync.catalog import image_queue
from furnisync.image_job import ReasonCode
from furnisync.store.folder import FolderStore

PAGE: Final = 1000
SETTLE_S: Final = 30.0
LOOK_EVERY_S: Final = 0.2
SUSPECTS_MAX: Final = 500
CHUNK_BYTES: Final = 1 << 20

Kind = Literal["missing", "truncated", "changed", "unreadable", "extra"]
REPAIRABLE: Final[tuple[Kind, ...]] = ("missing", "truncated", "changed")


class ImageTrouble(msgspec.Struct, frozen=True):
    """Something that is not as it should be; ids where a row is meant, `file` relative.

    An altered picture cannot be fetched anew: Etsy has only its original.
    """

    kind: Kind
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
    """What the catalogue says of a file."""

    listing_id: int
    image_id: int
    file: str | None
    size_bytes: int | None
    sha256: bytes | None


Table = Literal["images", "altered_images"]
_ROW: Final = "SELECT listing_id, image_id, file, bytes, sha256 FROM"
_HELD: Final[dict[Table, str]] = {
    "images": "(file IS NOT NULL OR status = 'done')",
    "altered_images": "file IS NOT NULL",
}
_ALTERED_WORDS: Final = "altered picture: `furnisync import --take-altered` brings it back"
_KEY: Final = "(listing_id, image_id)"


class ImageCheck:
    """Checks one home's images; `step` is told how many rows or files were looked at."""

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
        """Every row that has a file: is it there, as long and (on demand) the same to the byte?

        Short reads, a page of rows each: a long one would keep a running sync's log growing.
        """
        after, suspects = (-1, -1), list[ImageRow]()
        while rows := self._rows(table, after):
            suspects += [row for row in rows if self._judge(row, table) is not None]
            if len(suspects) >= SUSPECTS_MAX:
                yield from self._settle(suspects, table)
                suspects = []
            after = (rows[-1].listing_id, rows[-1].image_id)
            self._step(len(rows))
        yield from self._settle(suspects, table)

    def _rows(self, table: Table, after: tuple[int, int]) -> list[ImageRow]:
        rows = self._catalog.execute(
            f"{_ROW} {table} WHERE {_KEY} > (?, ?) AND {_HELD[table]}"
            f" ORDER BY listing_id, image_id LIMIT {PAGE}",
            after,
        )
        return [ImageRow(*row) for row in rows]

    def _judge(self, row: ImageRow, table: Table) -> ImageTrouble | None:
        """What is wrong with the file of a row; None where nothing is."""
        if row.file is None:
            verdict: tuple[Kind, str] | None = ("missing", "its row is done and names no file")
        else:
            try:
                verdict = self._judge_file(row.file, row)
            except FileNotFoundError:
                verdict = ("missing", "")
            except (OSError, ValueError) as error:
                verdict = ("unreadable", str(error))
        if verdict is None:
            return None
        kind, detail = verdict
        altered = table == "altered_images"
        detail = ", ".join(filter(None, (detail, _ALTERED_WORDS if altered else "")))
        return ImageTrouble(kind, row.file, row.listing_id, row.image_id, detail, altered)

    def _judge_file(self, file: str, row: ImageRow) -> tuple[Kind, str] | None:
        found = self._store.stat(file)
        if found is None:
            return "missing", ""
        if row.size_bytes is not None and found.size_bytes != row.size_bytes:
            kind: Kind = "truncated" if found.size_bytes < row.size_bytes else "changed"
            return kind, f"{found.size_bytes:,} of {row.size_bytes:,} bytes"
        if self._sha256 and row.sha256 is not None and self._digest(file) != row.sha256:
            return "changed", "another sha256"
        return None

    def _digest(self, file: str) -> bytes:
        with self._store.open(file) as content:
            digest = hashlib.sha256()
            while chunk := content.read(CHUNK_BYTES):
                digest.update(chunk)
            return digest.digest()

    def _settle(self, suspects: list[ImageRow], table: Table) -> Iterator[ImageTrouble]:
        """Look again, until a running sync had time to commit what it has just put."""
        end = time.monotonic() + SETTLE_S
        while suspects:
            again = [row for one in suspects for row in self._again(one, table)]
            judged = [(row, self._judge(row, table)) for row in again]
            wrong = [(row, trouble) for row, trouble in judged if trouble is not None]
            if not wrong or not self._sync_runs() or time.monotonic() > end:
                yield from (trouble for _, trouble in wrong)
                return
            suspects = [row for row, _ in wrong]
            time.sleep(LOOK_EVERY_S)

    def _again(self, row: ImageRow, table: Table) -> list[ImageRow]:
        """The row as it is now; nothing where it is gone or waits to be fetched anew."""
        rows = self._catalog.execute(
            f"{_ROW} {table} WHERE {_KEY} = (?, ?) AND {_HELD[table]}",
            (row.listing_id, row.image_id),
        )
        return [ImageRow(*one) for one in rows]

    # -- files against rows --------------------------------------------------------------------

    def check_files(self) -> Iterator[ImageTrouble]:
        """Files that no row names. Hidden ones and half-written ones are not looked at."""
        suspects: list[str] = []
        for files in self._pages_of_files():
            suspects += [file for file in files if not self._is_known(file)]
            if len(suspects) >= SUSPECTS_MAX:
                yield from self._settle_files(suspects)
                suspects = []
            self._step(len(files))
        yield from self._settle_files(suspects)

    def _pages_of_files(self) -> Iterator[list[str]]:
        page: list[str] = []
        for file in _walk(os.fspath(self._store.root), ""):
            page.append(file)
            if len(page) == PAGE:
                yield page
                page = []
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

    def _settle_files(self, suspects: list[str]) -> Iterator[ImageTrouble]:
        end = time.monotonic() + SETTLE_S
        while suspects:
            suspects = [file for file in suspects if self._is_left(file)]
            if not self._sync_runs() or time.monotonic() > end:
                yield from (ImageTrouble("extra", file) for file in suspects)
                return
            time.sleep(LOOK_EVERY_S)

    def _is_left(self, file: str) -> bool:
        return self._store.stat(file) is not None and not self._is_known(file)


def _walk(folder: str, below: str) -> Iterator[str]:
    """Files below a folder, relative and with `/`; names are never all in memory at once."""
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
    """Let the next run fetch these images anew."""
    images = [
        (one.listing_id, one.image_id)
        for one in troubles
        if one.listing_id is not None and one.image_id is not None
    ]
    image_queue.requeue(connection, images, ReasonCode.NOT_AS_RECORDED, now)
