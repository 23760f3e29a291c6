"""The older tool's image files: found once, then looked up by listing, without holding them all.

Files `{listing_id}.jpg` and `{listing_id}_{image_id}.jpg`, flat or in folders, and the same inside
uncompressed tars. The list of five million lies in a scratch database, not in memory.
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

from furnisync.history.fields import as_json

NAME: Final = re.compile(
    r"([1-9]\d{0,18})(?:_([1-9]\d{0,18}))?\.(?:jpe?g|png|webp|gif)", re.IGNORECASE
)
PLACEHOLDER_BYTES: Final = 119
"""The older tool put a white picture of exactly this size where a download had failed."""
CAME: Final = "came"
"""What became of a file that is here now, or was before."""
_ALTERED_PLACE: Final = re.compile(
    r"image(?:embedded|tarred|primary)(?:[._-].*)?|altered", re.IGNORECASE
)
"""A folder or tar of pictures whose background was removed: the older tool's, and our own."""
_AT_ONCE: Final = 20_000

Complain = Callable[[str, str], None]
"""Where, and what is wrong with it."""


class OldFile(msgspec.Struct, frozen=True):
    """An image file, or a member of a tar.

    Attributes:
        number: its own in the scratch list.
        image_id: None where its name has none: the listing's first image.
        path: absolute; of the tar where it lies in one.
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

    @property
    def is_placeholder(self) -> bool:
        """A failed download: the white picture, or nothing yet."""
        return self.size in (0, PLACEHOLDER_BYTES)

    def read(self) -> bytes:
        """All of it.

        Raises:
            OSError: it cannot be read.
        """
        with open(self.path, "rb") as file:  # noqa: PTH123 - hot path, str only
            if self.offset is None:
                return file.read()
            file.seek(self.offset)
            return file.read(self.size)


class OldFiles:
    """The list of files, and what became of each; those of which nobody told are left over.

    Attributes:
        count: of all files.
        altered: how many of them are altered pictures.
    """

    def __init__(self, scratch: Path) -> None:
        self._list = sqlite3.connect(scratch, isolation_level=None)
        self._list.execute("PRAGMA journal_mode = OFF")
        self._list.execute("PRAGMA synchronous = OFF")
        self._list.execute(
            "CREATE TABLE files (number INTEGER PRIMARY KEY, listing_id INTEGER, image_id INTEGER,"
            " folder INTEGER, name TEXT, place INTEGER, size INTEGER,"
            " altered INTEGER, used INTEGER DEFAULT 0, fate TEXT)"
        )
        self._list.execute("CREATE TABLE folders (folder INTEGER PRIMARY KEY, path TEXT)")
        self.count = 0
        self.altered = 0

    def close(self) -> None:
        """Forget the list."""
        self._list.close()

    def find(self, root: Path, complain: Complain, found: Callable[[int], None]) -> None:
        """List all images below a folder; hidden folders and other names are passed over.

        Args:
            root: the folder.
            complain: takes what cannot be read.
            found: takes the number of files from time to time.
        """
        below = is_altered_place(os.path.abspath(root))  # noqa: PTH100 - links keep their names
        self._list.execute("BEGIN")
        for folder, names in _walk(root.resolve(), complain):
            number = self._list.execute("INSERT INTO folders (path) VALUES (?)", (folder,))
            path = folder.partition(_IN_TAR)[0]
            all_altered = below or any(map(is_altered_place, (path, os.path.realpath(path))))
            rows = (
                (int(match[1]), match[2] and int(match[2]), number.lastrowid, name, place, size,
                 all_altered or ("/" in name and is_altered_place(name)))
                for name, place, size in names
                if (match := NAME.fullmatch(name.rpartition("/")[2])) and _fits(match)
            )  # fmt: skip
            while chunk := [row for row, _ in zip(rows, range(_AT_ONCE), strict=False)]:
                self._list.executemany(
                    "INSERT INTO files (listing_id, image_id, folder, name, place, size, altered)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    chunk,
                )
                self.count += len(chunk)
                self.altered += sum(row[-1] for row in chunk)
                found(self.count)
        self._list.execute("COMMIT")

    def index(self) -> None:
        """Make ready for looking up, once all is found: a sort is dearer row by row."""
        self._list.execute("CREATE INDEX by_listing ON files (listing_id, image_id, number)")

    def of(self, listing_ids: Collection[int]) -> dict[int, list[OldFile]]:
        """The files of these listings; none for a listing without."""
        rows = self._list.execute(
            f"{_FILES} WHERE listing_id IN (SELECT value FROM json_each(?))"
            " ORDER BY listing_id, image_id, number",
            (as_json(list(listing_ids)),),
        )
        files = (_as_file(row) for row in rows)
        return {key: list(group) for key, group in groupby(files, lambda file: file.listing_id)}

    def mark_used(self, files: Collection[OldFile]) -> None:
        """These were dealt with."""
        self._list.executemany(
            "UPDATE files SET used = 1 WHERE number = ?", [(file.number,) for file in files]
        )

    def mark_fates(self, fates: Iterable[tuple[OldFile, str]]) -> None:
        """What became of some files: `CAME`, or why not; one that came stays so."""
        self._list.executemany(
            f"UPDATE files SET fate = ? WHERE number = ? AND fate IS NOT '{CAME}'",
            [(fate, file.number) for file, fate in fates],
        )

    def fates(self) -> list[tuple[str, int]]:
        """How many files had which fate; those that nobody wanted have none."""
        return self._list.execute(
            "SELECT fate, count(*) FROM files WHERE fate IS NOT NULL GROUP BY fate"
        ).fetchall()

    def left_over(self) -> Iterator[tuple[int, list[OldFile]]]:
        """Listings with files that nothing was told of, in pieces of memory's size."""
        last = 0
        while True:
            rows = self._list.execute(
                "SELECT DISTINCT listing_id FROM files WHERE used = 0 AND listing_id > ?"
                " ORDER BY listing_id LIMIT 1000",
                (last,),
            ).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield from self.of([row[0] for row in rows]).items()


_FILES: Final = (
    "SELECT number, listing_id, image_id, path || name, place, size, altered"
    " FROM files JOIN folders USING (folder)"
)


def is_altered_place(path: str) -> bool:
    """Whether a file or folder lies where pictures are altered ones, or is a tar of such."""
    return any(map(_ALTERED_PLACE.fullmatch, PurePath(path).parts))


def _as_file(row: tuple[int, int, int | None, str, int | None, int, int]) -> OldFile:
    number, listing_id, image_id, path, place, size, altered = row
    if place is not None:  # the "folder" is the tar, the member's name stands behind it
        path = path.partition(_IN_TAR)[0]
    return OldFile(number, listing_id, image_id, path, place, size, bool(altered))


_IN_TAR: Final = "\n"
"""Between a tar's path and a member's name; paths with a line break are passed over."""

_Names = Iterator[tuple[str, int | None, int]]


def _walk(root: Path, complain: Complain) -> Iterator[tuple[str, _Names]]:
    """Folders and tars with what lies in each: (name, place in the tar, bytes)."""
    waiting, seen = [os.fspath(root)], set()
    while waiting:
        folder = waiting.pop()
        tars: list[str] = []
        try:
            identity = _identity(folder)
        except OSError as error:
            complain(folder, f"cannot be read ({error.strerror})")
            continue
        if identity in seen:  # a link that leads in a circle
            continue
        seen.add(identity)
        yield f"{folder}/", _names(folder, waiting, tars, complain)
        for tar in tars:
            yield tar + _IN_TAR, _members(tar, complain)


def _identity(folder: str) -> tuple[int, int]:
    found = os.stat(folder)  # noqa: PTH116
    return found.st_dev, found.st_ino


def _names(folder: str, folders: list[str], tars: list[str], complain: Complain) -> _Names:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or _IN_TAR in entry.path:
                    continue
                if entry.is_dir():
                    folders.append(entry.path)
                elif entry.name.endswith(".tar"):
                    tars.append(entry.path)
                elif NAME.fullmatch(entry.name) and entry.is_file():
                    yield entry.name, None, entry.stat().st_size
    except OSError as error:
        complain(folder, f"cannot be read ({error.strerror})")


def _members(path: str, complain: Complain) -> _Names:
    try:
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                if member.isreg() and not member.sparse:
                    yield member.name, member.offset_data, member.size
                tar.members = []  # type: ignore[attr-defined]  # it would keep them all
    except (OSError, tarfile.TarError) as error:
        complain(path, f"the tar cannot be read to its end ({error})")


def _fits(match: re.Match[str]) -> bool:
    return int(match[1]) < 2**63 and int(match[2] or 0) < 2**63
