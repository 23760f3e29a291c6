"""An old image file becomes one of ours: read whole, checked, and put where the store finds it.

| adopt   | the file                                                                            |
| ------- | ----------------------------------------------------------------------------------- |
| `place` | stays where it lies below the image folder, as names are relative to that; else link |
| `link`  | gets a second name (hard link) in the store's layout                                |
| `move`  | the same, and its old name goes once the row is committed                           |
| `copy`  | is written anew; the only way out of a tar                                          |
"""

import errno
import hashlib
import os
import stat
import threading
from pathlib import Path
from typing import Final, Literal

import msgspec

from furnisync.config import ImageSize
from furnisync.download.sizes import size_of
from furnisync.errors import UserError
from furnisync.importer.files import OldFile
from furnisync.store import NotStored
from furnisync.store.folder import FolderStore
from furnisync.store.image_format import NotAnImage, Picture, inspect_image

Adopt = Literal["place", "link", "move", "copy"]
_NO_LINKS: Final = {
    errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS,
}  # fmt: skip


class Refused(ValueError):
    """A file is not adopted; the message says why."""


class Adopted(msgspec.Struct, frozen=True):
    """A file of the store, as its row will say it.

    Attributes:
        file: relative to the store's root.
        stored_at: unix seconds at which the older tool wrote it.
        moved_from: the old name, to be removed once the row is committed.
    """

    file: str
    size: ImageSize
    size_bytes: int
    width: int
    height: int
    sha256: bytes
    stored_at: int
    moved_from: str | None = None


class Placing(msgspec.Struct, frozen=True):
    """How files are placed.

    Attributes:
        adopt: what becomes of them.
        max_pixels: larger pictures are refused.
        dry: write nothing.
    """

    adopt: Adopt
    max_pixels: int
    dry: bool


class Adopter:
    """Checks files and gives them their place; usable from several threads.

    With `dry` nothing is written and all else is done.
    """

    def __init__(
        self,
        root: Path,
        placing: Placing,
        wanted: ImageSize,
        *,
        told: ImageSize | None = None,
        below: str = "",
    ) -> None:
        """Make an adopter.

        Args:
            root: the store's.
            placing: how files are placed.
            wanted: the CDN size that the settings ask for.
            told: the size that the older tool fetched, where the user knows it.
            below: folder of the store for files that come from elsewhere, with a `/` at its end.
        """
        self._root = os.path.realpath(root)
        self._below = below
        self._store = FolderStore(root)
        self._into = FolderStore(root / below)
        self._adopt = placing.adopt
        self._wanted: ImageSize = wanted
        self._told = told
        self._max_pixels = placing.max_pixels
        self._dry = placing.dry
        self._writing = threading.Lock()
        self._folders: set[str] = set()

    @property
    def moves(self) -> bool:
        """Whether files go from where they lay."""
        return self._adopt == "move"

    def adopt(self, file: OldFile, image_id: int) -> Adopted:
        """Check a file and give it its place as this image of its listing.

        Raises:
            Refused: it is no whole image, or cannot be read.
            UserError: the disk is full or takes no links.
        """
        body = self._read(file)
        picture = self._inspect(body)
        folder = f"{self._below}{file.listing_id % 1000:03d}"
        name = f"{folder}/{file.listing_id}_{image_id}.{picture.extension}"
        moved_from = None
        if (own := self.own_name(file)) is not None and self._adopt == "place":
            name = own
        elif not self._dry and own != name:
            moved_from = self._put(file, image_id, picture, body, name)
        return Adopted(
            name,
            self._told or size_of(picture, self._wanted),
            len(body),
            picture.width,
            picture.height,
            hashlib.sha256(body).digest(),
            int(os.stat(file.path).st_mtime),  # noqa: PTH116 - hot path, str only
            moved_from,
        )

    def own_name(self, file: OldFile) -> str | None:
        """The file's name in the store, where it lies below the store's root."""
        if file.offset is not None or not file.path.startswith(f"{self._root}{os.sep}"):
            return None
        return file.path[len(self._root) + 1 :]

    def holds(self, name: str) -> bool:
        """Whether the store has a file of this name."""
        return self._store.stat(name) is not None

    def is_held(self, file: OldFile, name: str) -> bool:
        """Whether a file is the store's own one, or of its length: what was linked or copied."""
        if self.own_name(file) == name:
            return True
        stored = self._store.stat(name)
        return stored is not None and stored.size_bytes == file.size

    def is_moved(self, file: OldFile, name: str, sha256: bytes | None) -> bool:
        """Whether a file that is to move is in the store already, byte for byte, under `name`.

        So it is where a run was killed after the row was committed.
        """
        if self._adopt != "move" or file.offset is not None or self.own_name(file) == name:
            return False
        return self._is_second_name(file.path, name) and (
            hashlib.sha256(self._read(file)).digest() == sha256
        )

    def forget_old_name(self, path: str, name: str) -> bool:
        """Remove the old name of a file that the store holds under `name`; whether it is gone.

        Nothing is removed by a rehearsal, and nothing that might be the only name of the file.
        """
        if self._dry or not self._is_second_name(path, name):
            return False
        Path(path).unlink()
        return True

    def _is_second_name(self, path: str, name: str) -> bool:
        """Whether the store's file would still be there without the one at `path`.

        A symbolic link or a second mount may lead from the store to the very file that is to move.
        """
        final = os.path.realpath(f"{self._root}/{name}")
        try:
            old, new = os.lstat(path), os.stat(final)  # noqa: PTH116 - hot path, str only
        except FileNotFoundError:
            return False
        if stat.S_ISLNK(old.st_mode) or os.path.realpath(path) == final:
            return False
        same = (old.st_dev, old.st_ino) == (new.st_dev, new.st_ino)
        return old.st_nlink > 1 if same else old.st_size == new.st_size

    def _read(self, file: OldFile) -> bytes:
        try:
            body = file.read()
        except OSError as error:
            raise Refused(f"cannot be read ({error.strerror})") from error
        if len(body) != file.size:
            raise Refused(f"{len(body):,} of {file.size:,} bytes")
        return body

    def _inspect(self, body: bytes) -> Picture:
        try:
            return inspect_image(body, self._max_pixels)
        except NotAnImage as error:
            raise Refused(str(error)) from error

    def _put(
        self, file: OldFile, image_id: int, picture: Picture, body: bytes, name: str
    ) -> str | None:
        """Put the file under its name in the layout; returns the old name where it is to go."""
        source = os.path.realpath(file.path)
        if self._adopt == "copy" or file.offset is not None:
            self._copy(file.listing_id, image_id, picture, body)
            return None
        try:
            self._link(source, name, body)
        except OSError as error:
            if error.errno not in _NO_LINKS or self._adopt != "move":
                raise _cannot(error, source) from error
            self._copy(file.listing_id, image_id, picture, body)
            self._sync_to_disk(name)
        # A symbolic link is somebody's arrangement: what it points to stays.
        return file.path if self._adopt == "move" and source == file.path else None

    def _link(self, source: str, name: str, body: bytes) -> None:
        final = f"{self._root}/{name}"
        self._make_folder(os.path.dirname(final))  # noqa: PTH120 - hot path, str only
        try:
            os.link(source, final)
        except FileExistsError:
            # No row knows that file: a run was killed before its commit, this one or a download's.
            if not os.path.samefile(source, final):  # noqa: PTH121 - as above
                self._store.spare_foreign(name, body)
                beside = f"{final}.linking"
                Path(beside).unlink(missing_ok=True)
                os.link(source, beside)
                os.replace(beside, final)  # noqa: PTH105 - as above

    def _make_folder(self, folder: str) -> None:
        if folder not in self._folders:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self._folders.add(folder)

    def _copy(self, listing_id: int, image_id: int, picture: Picture, body: bytes) -> None:
        with self._writing:
            try:
                self._into.put(listing_id, image_id, picture.extension, body)
            except NotStored as error:
                raise UserError(
                    f"An image could not be written to {self._root} ({error}): free some disk, then"
                    " run the same command again, which goes on from here."
                ) from error

    def _sync_to_disk(self, name: str) -> None:
        """Before the only other copy goes."""
        descriptor = os.open(f"{self._root}/{name}", os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _cannot(error: OSError, source: str) -> UserError:
    if error.errno in _NO_LINKS:
        return UserError(
            f"{source} cannot be linked into the image folder ({error.strerror}): choose"
            " --adopt move, or --adopt copy where the older tool still needs its files."
        )
    return UserError(
        f"{source} could not be given its place in the image folder ({error.strerror}): mend that,"
        " then run the same command again, which goes on from here."
    )
