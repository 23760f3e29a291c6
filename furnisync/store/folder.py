"""Image files in a folder.

What a crash can leave: a file under its final name is whole, as it is written elsewhere first and
`os.replace` is atomic. That is true for `kill -9` at any instant. There is no fsync for each file:
it would take 0.5 ms instead of 0.1 for each image, and guards against power cuts only. After an
unclean end the owner of the rows compares the newest files with them (size, sha256).
"""

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from furnisync import owned
from furnisync.identity import IMAGES_MARK, Mark, read_mark
from furnisync.image_job import ImageReason, ReasonCode
from furnisync.store import NotStored, StoredFile
from furnisync.store.image_format import NotAnImage, inspect_image

__all__ = ["EXTENSIONS", "FolderStore", "not_stored"]

EXTENSIONS = ("jpg", "png", "webp", "gif")

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_PARTIAL = ".partial"
_ANY_PIXELS = 10**12
_PROBE = ".probe"


class FolderStore:
    """Files in `root/{last three digits of listing_id}/{listing_id}_{image_id}.{ext}`.

    Half-written files are in `root/.partial` (the same file system, so that a rename is atomic).
    What a killed run left there is removed before the first `put`: a store that only reads deletes
    nothing, and no folder of millions is listed. The caller's lock allows one writing process at a
    time. The methods of the protocol are documented in `Store`.
    """

    def __init__(self, root: Path, mark: Mark | None = None) -> None:
        """Make a store; with a `mark` nothing is written where the root lacks it.

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
        """Keep a body, whole or not at all; it replaces an older one of the same image."""
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
            raise not_stored(error) from error
        return f"{stem}.{extension}"

    def probe(self) -> None:
        """Write as much as failed last, in the same place, and remove it again.

        Raises:
            NotStored: it still fails.
        """
        folder, size_bytes = self._refused
        name = f"{folder}/{_PROBE}"
        try:
            self._put(folder, name, bytes(size_bytes))
            os.unlink(f"{self._root}/{name}")  # noqa: PTH108 - str only, as below
        except OSError as error:
            raise not_stored(error) from error

    def find(self, listing_id: int, image_id: int) -> str | None:
        """The name of an image's file, whatever its format; None where there is none."""
        stem = f"{listing_id % 1000:03d}/{listing_id}_{image_id}"
        for extension in EXTENSIONS:
            if os.access(f"{self._root}/{stem}.{extension}", os.F_OK):
                return f"{stem}.{extension}"
        return None

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading."""
        return self._path(name).open("rb")

    def stat(self, name: str) -> StoredFile | None:
        """Size of a file; None where there is none."""
        try:
            return StoredFile(self._path(name).stat().st_size)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def has(self, name: str) -> bool:
        """Whether `remove` would remove something: also a link whose target is missing.

        Raises:
            ValueError: a name that leads out of the root.
        """
        return os.path.lexists(self._path(name))

    def remove(self, name: str) -> bool:
        """Remove a file for good; whether there was one."""
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
            # Somebody removed the folder meanwhile, or its disk is away. Make it again, once.
            self._seen = None
            self._prepare(folder)
            self._write(name, body)

    def _prepare(self, folder: str) -> None:
        """Make folders once, not for each file; empty `.partial` the first time."""
        if self._seen is None or _inode(self._root) != self._seen:
            # The first time, or a disk was mounted or unmounted at the root since.
            self._ready.clear()
            if self._mark is not None and read_mark(self.root / IMAGES_MARK) != self._mark:
                raise NotStored(ImageReason(ReasonCode.FOLDER_AWAY))
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
        """Before `body` gets `name`: keep a whole picture that is not ours under another name.

        One that is not whole was left by a run that ended badly.

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
        """An image changed its format: remove the old file once the new one is whole."""
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


def not_stored(error: OSError) -> NotStored:
    """The same failure in the words of the store."""
    if error.errno in _NO_ROOM:
        return NotStored(ImageReason(ReasonCode.DISK_FULL))
    return NotStored(ImageReason(ReasonCode.NOT_WRITTEN, error.strerror or type(error).__name__))
