"""The older tool's image files: listed once, then looked up by listing, without holding them all.

Files `{listing_id}.jpg` and `{listing_id}_{image_id}.jpg`, flat or in folders, and the same inside
uncompressed tars. The list of five million is in a scratch database, not in memory.
"""

import os
import re
import sqlite3
import tarfile
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import groupby
from pathlib import Path, PurePath
from typing import Final

import msgspec

from furnisync.history.fields.values import as_json
from furnisync.importer.report import Reason, Report

IMAGE_FILES: Final = "image files"
"""The source of files, in the report."""
NAME: Final = re.compile(
    r"([1-9]\d{0,18})(?:_([1-9]\d{0,18}))?\.(?:jpe?g|png|webp|gif)", re.IGNORECASE
)
_FAILED_BYTES: Final = "(0, 119)"
"""Sizes of a failed download: nothing, or the older tool's white placeholder."""
IMPORTED: Final = "imported"
SEEN: Final = "seen"
_LABELS: Final = {
    Reason.ALREADY_HERE: "files not needed",
    Reason.UNKNOWN_IMAGE_ID: "files without an image id",
}
_REFUSED: Final = "files refused"
_ALTERED_PLACE: Final = re.compile(
    r"image(?:embedded|tarred|primary)(?:[._-].*)?|altered", re.IGNORECASE
)
"""A folder or tar of images whose background was removed: the older tool's, and our own."""
_PROGRESS_EVERY: Final = 20_000

_Names = Iterator[tuple[str, int | None, int]]


class SourceFile(msgspec.Struct, frozen=True):
    """An image file, or a member of a tar.

    Attributes:
        number: its own in the scratch list.
        image_id: None if its name has none: the listing's first image.
        path: absolute; of the tar if it is a member.
        offset: where it begins in the tar; None: it is a file of its own.
        size: bytes.
        altered: by its place, it is not Etsy's original.
    """

    number: int
    listing_id: int
    image_id: int | None
    path: str
    offset: int | None
    size: int
    altered: bool = False

    def read(self) -> bytes:
        """The whole content.

        Raises:
            OSError: it cannot be read.
        """
        with open(self.path, "rb") as file:  # noqa: PTH123 -- hot path, str only
            if self.offset is None:
                return file.read()
            file.seek(self.offset)
            return file.read(self.size)


class FileList:
    """The list of files, with the outcome of each: `IMPORTED`, `SEEN` or a `Reason`.

    A file has no outcome until a source names its listing.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Make the list in a scratch database."""
        self._list = connection
        self._count = 0
        self._list.execute(
            "CREATE TABLE files (number INTEGER PRIMARY KEY, listing_id INTEGER, image_id INTEGER,"
            " folder INTEGER, name TEXT, place INTEGER, size INTEGER, altered INTEGER,"
            " outcome TEXT, detail TEXT)"
        )
        self._list.execute("CREATE TABLE folders (folder INTEGER PRIMARY KEY, path TEXT)")

    def find(self, root: Path, report: Report, progress: Callable[[int], None]) -> None:
        """List all images below a folder; hidden folders and other names are left out.

        Args:
            root: the folder.
            report: takes what cannot be read.
            progress: takes the number of files from time to time.
        """
        below = is_altered_place(os.path.abspath(root))  # noqa: PTH100 -- links keep their names
        self._list.execute("BEGIN")
        for folder, names in _walk(root.resolve(), report):
            number = self._list.execute("INSERT INTO folders (path) VALUES (?)", (folder,))
            altered = below or any(map(is_altered_place, (folder, os.path.realpath(folder))))
            self._list.executemany(
                "INSERT INTO files (folder, altered, listing_id, image_id, name, place, size)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    (
                        number.lastrowid,
                        altered or ("/" in row[2] and is_altered_place(row[2])),
                        *row,
                    )
                    for row in self._counted(names, progress)
                ),
            )
        self._list.execute("COMMIT")

    def _counted(
        self, names: _Names, progress: Callable[[int], None]
    ) -> Iterator[tuple[int, int | None, str, int | None, int]]:
        for name, place, size in names:
            match = NAME.fullmatch(name.rpartition("/")[2])
            if match is None or max(int(match[1]), int(match[2] or 0)) >= 2**63:
                continue
            yield int(match[1]), int(match[2]) if match[2] else None, name, place, size
            self._count += 1
            if self._count % _PROGRESS_EVERY == 0:
                progress(self._count)

    def index(self) -> None:
        """Make lookups fast, once all is found: an index row by row would be slower."""
        self._list.execute("CREATE INDEX by_listing ON files (listing_id, image_id, number)")

    def altered_count(self) -> int:
        """How many files are altered images."""
        return self._sum("altered")

    def failed_count(self) -> int:
        """How many files are failed downloads; they are never imported."""
        return self._sum(f"size IN {_FAILED_BYTES}")

    def _sum(self, what: str) -> int:
        return int(self._list.execute(f"SELECT ifnull(sum({what}), 0) FROM files").fetchone()[0])

    def of(self, listing_ids: Collection[int]) -> dict[int, list[SourceFile]]:
        """The files of these listings, those with an image id first."""
        rows = self._list.execute(
            "SELECT number, listing_id, image_id, path, name, place, size, altered"
            " FROM files JOIN folders USING (folder) WHERE size NOT IN " + _FAILED_BYTES + " AND"
            " listing_id IN (SELECT value FROM json_each(?))"
            " ORDER BY listing_id, image_id NULLS LAST, number",
            (as_json(list(listing_ids)),),
        )
        files = map(_as_file, rows)
        return {key: list(group) for key, group in groupby(files, lambda file: file.listing_id)}

    def mark(self, outcomes: Iterable[tuple[SourceFile, str, str]]) -> None:
        """Note outcome and detail of some files; an imported one stays imported."""
        self._list.executemany(
            f"UPDATE files SET outcome = ?, detail = ? WHERE number = ?"
            f" AND outcome IS NOT '{IMPORTED}'",
            ((outcome, detail, file.number) for file, outcome, detail in outcomes),
        )

    def without_outcome(self) -> Iterator[int]:
        """Listings with files that no source named, by id."""
        last = 0
        while True:
            rows = self._list.execute(
                "SELECT DISTINCT listing_id FROM files WHERE outcome IS NULL AND listing_id > ?"
                " ORDER BY listing_id LIMIT 1000",
                (last,),
            ).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield from (row[0] for row in rows)

    def report(self, report: Report) -> None:
        """Count the files that were to be imported, and name those that were not."""
        wanted = f"FROM files JOIN folders USING (folder) WHERE outcome <> '{SEEN}'"
        report.read(IMAGE_FILES, self._list.execute(f"SELECT count(*) {wanted}").fetchone()[0])
        rows = self._list.execute(
            f"SELECT path, name, outcome, detail {wanted} AND outcome <> '{IMPORTED}'"
            " ORDER BY listing_id, image_id, number"
        )
        for path, name, outcome, detail in rows:
            reason = Reason(outcome)
            where = (IMAGE_FILES, f"{path}/{name}")
            lost = int(reason is not Reason.ALREADY_HERE)
            report.leave_out(_LABELS.get(reason, _REFUSED), where, reason, detail, lost)


def is_altered_place(path: str) -> bool:
    """Whether a file or folder is below a folder of altered images, or is a tar of them."""
    return any(map(_ALTERED_PLACE.fullmatch, PurePath(path).parts))


def _as_file(row: tuple[int, int, int | None, str, str, int | None, int, int]) -> SourceFile:
    number, listing_id, image_id, path, name, place, size, altered = row
    if place is None:  # else its "folder" is the tar
        path = f"{path}/{name}"
    return SourceFile(number, listing_id, image_id, path, place, size, bool(altered))


def _walk(root: Path, report: Report) -> Iterator[tuple[str, _Names]]:
    """Folders and tars with the content of each: (name, offset in the tar, bytes)."""
    waiting, seen = [os.fspath(root)], set()
    while waiting:
        folder = waiting.pop()
        tars: list[str] = []
        try:
            found = os.stat(folder)  # noqa: PTH116 -- hot path, str only
        except OSError as error:
            _unreadable(report, folder, error)
            continue
        if (found.st_dev, found.st_ino) in seen:  # a link that leads in a circle
            continue
        seen.add((found.st_dev, found.st_ino))
        yield folder, _names(folder, waiting, tars, report)
        for tar in tars:
            yield tar, _members(tar, report)


def _names(folder: str, folders: list[str], tars: list[str], report: Report) -> _Names:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    folders.append(entry.path)
                elif entry.name.endswith(".tar"):
                    tars.append(entry.path)
                elif NAME.fullmatch(entry.name) and entry.is_file():
                    yield entry.name, None, entry.stat().st_size
    except OSError as error:
        _unreadable(report, folder, error)


def _members(path: str, report: Report) -> _Names:
    try:
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                if member.isreg() and not member.sparse:
                    yield member.name, member.offset_data, member.size
                tar.members = []  # type: ignore[attr-defined]  # it would keep them all
    except (OSError, tarfile.TarError) as error:
        _unreadable(report, path, error)


def _unreadable(report: Report, path: str, error: Exception) -> None:
    report.leave_out("unreadable", (IMAGE_FILES, path), Reason.UNREADABLE, str(error))
