"""Where image files lie: three verbs (put, open, stat), over a folder today.

Tar shards or object storage fit behind the same `Store` later: a name is opaque to callers,
relative to the store's root, and made of numbers that we know and an extension of our own list,
never of anything that a response said.

What a crash can leave: a file under its final name is whole, as it is written elsewhere first and
`os.replace` is atomic. That holds against `kill -9` at any instant. There is no fsync for each
file: 0.5 ms instead of 0.1 for each image, to guard against power cuts only. After an unclean end
the files of the last minutes are to be compared with their rows (size, sha256) by whoever owns the
rows.
"""

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

import msgspec

from furnisync import owned
from furnisync.errors import Transient
from furnisync.identity import IMAGES_MARK, Mark, read_mark
from furnisync.store.image_format import NotAnImage, inspect_image

__all__ = [
    "DISK_FULL",
    "EXTENSIONS",
    "FOLDER_AWAY",
    "NOT_WRITTEN",
    "STORE_TROUBLE",
    "FolderStore",
    "NotStored",
    "Store",
    "StoredFile",
]

EXTENSIONS = ("jpg", "png", "webp", "gif")

DISK_FULL = "disk full"
"""Reason of a file that found no room (ENOSPC, EDQUOT)."""
NOT_WRITTEN = "not written"
"""How the reason begins where a file could not be written otherwise (permissions, EFBIG, EIO)."""
FOLDER_AWAY = "the image folder is not here"
"""Reason of a file whose folder does not bear the mark that it should: its disk is away."""
STORE_TROUBLE = (DISK_FULL, NOT_WRITTEN, FOLDER_AWAY)
"""`reason.startswith(STORE_TROUBLE)`: it was our disk, not the server; pause, do not count it."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_PARTIAL = ".partial"
_ANY_PIXELS = 10**12
_PROBE = ".probe"


class NotStored(Transient):
    """A body could not be written; nothing of it is left. The message begins as `STORE_TROUBLE`."""


class StoredFile(msgspec.Struct, frozen=True):
    """What the store knows of one file."""

    size_bytes: int


class Store(Protocol):
    """Keeps whole image files under names of its own."""

    def put(
        self,
        listing_id: int,
        image_id: int,
        extension: str,
        body: bytes,
        held: bytes | None = None,
    ) -> str:
        """Keep a body, whole or not at all, in place of an older one of the same image.

        Args:
            listing_id: of the image.
            image_id: likewise.
            extension: of `EXTENSIONS`.
            body: the file.
            held: sha256 of the file whose place it takes. Another whole picture under its name is
                not ours and is not lost.

        Returns:
            The file's name, relative to the store's root.

        Raises:
            NotStored: the disk is full or cannot be written.
        """
        ...

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading.

        Raises:
            FileNotFoundError: no such file.
        """
        ...

    def stat(self, name: str) -> StoredFile | None:
        """Size of a file; None where there is none."""
        ...


class FolderStore:
    """Files in `root/{last three digits of listing_id}/{listing_id}_{image_id}.{ext}`.

    Half-written files lie in `root/.partial` (the same file system, so that a rename is atomic).
    What a killed run left there is removed before the first `put`: a store that only reads deletes
    nothing, and no folder of millions is walked. One writing process at a time, by the caller's
    lock.
    """

    def __init__(self, root: Path, mark: Mark | None = None) -> None:
        """Make a store; with a `mark` nothing is written where the root does not bear it.

        So nothing fills an empty mount point, even one that becomes empty between two files.
        """
        self.root = root
        self._mark = mark
        self._root = os.fspath(root)
        self._seen: tuple[int, int] | None = None
        self._refused = (".", 1)
        self._partial = os.path.join(self._root, _PARTIAL)  # noqa: PTH118 - hot path, str only
        self._ready: set[str] = set()
        self._numbers = count()

    def put(
        self,
        listing_id: int,
        image_id: int,
        extension: str,
        body: bytes,
        held: bytes | None = None,
    ) -> str:
        """Keep a body, whole or not at all, in place of an older one of the same image.

        A whole picture that is neither is kept beside under another name, and that is told.

        Returns:
            The file's name, relative to the root, with `/`.

        Raises:
            NotStored: the disk is full or cannot be written; nothing is left under either name.
            ValueError: a negative id or an unknown extension.
        """
        if extension not in EXTENSIONS or listing_id < 0 or image_id < 0:
            raise ValueError(f"no name for listing {listing_id}, image {image_id}, .{extension}")
        folder = f"{listing_id % 1000:03d}"
        stem = f"{folder}/{listing_id}_{image_id}"
        try:
            self._prepare(folder)
            self.spare_foreign(f"{stem}.{extension}", body, held)
            self._put(folder, f"{stem}.{extension}", body)
            self._remove_others(stem, extension, held)
        except OSError as error:
            self._refused = (folder, len(body))
            raise _not_stored(error) from error
        return f"{stem}.{extension}"

    def probe(self) -> None:
        """Write as much as was refused last, in the same place, and take it away again.

        Raises:
            NotStored: it is refused still.
        """
        folder, size_bytes = self._refused
        name = f"{folder}/{_PROBE}"
        try:
            self._put(folder, name, bytes(size_bytes))
            os.unlink(f"{self._root}/{name}")  # noqa: PTH108 - str only, as below
        except OSError as error:
            raise _not_stored(error) from error

    def find(self, listing_id: int, image_id: int) -> str | None:
        """The name of an image's file, whatever its format; None where there is none."""
        stem = f"{listing_id % 1000:03d}/{listing_id}_{image_id}"
        for extension in EXTENSIONS:
            if os.access(f"{self._root}/{stem}.{extension}", os.F_OK):
                return f"{stem}.{extension}"
        return None

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a name that leads out of the root.
        """
        return self._path(name).open("rb")

    def stat(self, name: str) -> StoredFile | None:
        """Size of a file; None where there is none.

        Raises:
            ValueError: a name that leads out of the root.
        """
        try:
            return StoredFile(self._path(name).stat().st_size)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def has(self, name: str) -> bool:
        """Whether `remove` would take a file away: also a link whose target is not there.

        Raises:
            ValueError: a name that leads out of the root.
        """
        return os.path.lexists(self._path(name))

    def remove(self, name: str) -> bool:
        """Take a file away, for good; whether there was one.

        Raises:
            ValueError: a name that leads out of the root.
            OSError: it cannot be removed.
        """
        try:
            self._path(name).unlink()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def _path(self, name: str) -> Path:
        parts = PurePosixPath(name).parts
        if not parts or parts[0] == "/" or ".." in parts or "\0" in name:
            raise ValueError(f"{name!r} is no name in the store")
        return self.root.joinpath(*parts)

    def _put(self, folder: str, name: str, body: bytes) -> None:
        self._prepare(folder)
        try:
            self._write(name, body)
        except FileNotFoundError:
            # Somebody removed a folder under us, or its disk is away. Make it again, once.
            self._seen = None
            self._prepare(folder)
            self._write(name, body)

    def _prepare(self, folder: str) -> None:
        """Make folders once, not for each file; empty `.partial` the first time."""
        if self._seen is None or _inode(self._root) != self._seen:
            # The first time, or a disk was mounted or unmounted at the root since.
            self._ready.clear()
            if self._mark is not None and read_mark(self.root / IMAGES_MARK) != self._mark:
                raise NotStored(FOLDER_AWAY)
        if _PARTIAL not in self._ready:
            Path(self._partial).mkdir(parents=self._mark is None, exist_ok=True)
            self._seen = _inode(self._root)
            for leftover in _files(self._partial):
                with contextlib.suppress(FileNotFoundError):
                    leftover.unlink()
            self._ready.add(_PARTIAL)
        if folder not in self._ready:
            (self.root / folder).mkdir(exist_ok=True)
            self._ready.add(folder)

    def _write(self, name: str, body: bytes) -> None:
        partial = f"{self._partial}/{os.getpid()}-{next(self._numbers)}.part"
        try:
            _write_all(partial, body)
            os.replace(partial, f"{self._root}/{name}")  # noqa: PTH105 - hot path, str only
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(partial)  # noqa: PTH108 - as above
            raise

    def spare_foreign(self, name: str, body: bytes, held: bytes | None = None) -> None:
        """Before `name` is given to `body`: keep beside a whole picture that is not ours.

        One that is not whole is what a run left that ended badly.

        Raises:
            OSError: it cannot be read or renamed.
        """
        path = f"{self._root}/{name}"
        # `access` answers "no" without an exception: 0.5 us instead of 2.
        if not os.access(path, os.F_OK):
            return
        there = Path(path).read_bytes()
        if there == body or hashlib.sha256(there).digest() == held:
            return
        with contextlib.suppress(NotAnImage):
            inspect_image(there, _ANY_PIXELS)
            owned.keep(Path(path))

    def _remove_others(self, stem: str, extension: str, held: bytes | None) -> None:
        """An image that changed its format: the old file goes once the new one is whole."""
        for other in EXTENSIONS:
            if other == extension:
                continue
            path = f"{self._root}/{stem}.{other}"
            self.spare_foreign(f"{stem}.{other}", b"", held)
            if os.access(path, os.F_OK):
                os.unlink(path)  # noqa: PTH108 - hot path, str only


def _inode(path: str) -> tuple[int, int] | None:
    """What a path leads to, file system included; None where it leads nowhere."""
    try:
        found = os.stat(path)  # noqa: PTH116 - hot path, str only
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _write_all(path: str, body: bytes) -> None:
    """Write a new file; unbuffered, as a body is one piece. EDQUOT may come at the close."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        written = os.write(descriptor, body)
        while written < len(body):
            # A disk that fills up takes a part first and says why only at the next call.
            written += os.write(descriptor, memoryview(body)[written:])
    finally:
        os.close(descriptor)


def _files(folder: str) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                yield Path(entry.path)


def _not_stored(error: OSError) -> NotStored:
    if error.errno in _NO_ROOM:
        return NotStored(DISK_FULL)
    return NotStored(f"{NOT_WRITTEN}: {error.strerror or type(error).__name__}")
