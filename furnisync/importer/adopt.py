"""An older tool's image file becomes one of ours: read, checked, and put into the image folder.

| adopt   | the file                                                                        |
| ------- | ------------------------------------------------------------------------------- |
| `place` | stays where it is if that is below the image folder (names are relative to that); |
|         | else like `link`                                                                |
| `link`  | gets a second name (hard link) in the store's layout                            |
| `move`  | the same, and its old name is removed after the row is committed                |
| `copy`  | is copied; the only way out of a tar                                            |
"""

import errno
import hashlib
import os
import stat
import threading
from pathlib import Path
from typing import Final

from furnisync.catalog.altered import FOLDER as ALTERED
from furnisync.catalog.imported import ImportedFile
from furnisync.download.sizes import size_of
from furnisync.errors import UserError
from furnisync.importer.files import SourceFile
from furnisync.importer.report import Reason
from furnisync.importer.run import Run
from furnisync.store import NotStored
from furnisync.store.folder import FolderStore
from furnisync.store.image_format import NotAnImage, Picture, inspect_image

_NO_LINKS: Final = {
    errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS,
}  # fmt: skip


class Refused(ValueError):
    """A file is not adopted, for a reason and its detail."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.words}: {detail}")
        self.reason = reason
        self.detail = detail


class Adopter:
    """Checks files and gives them their place; usable from several threads.

    A rehearsal writes nothing and does all else.

    Attributes:
        altered: it is for altered images, which have a folder of their own.
    """

    def __init__(self, run: Run, *, altered: bool) -> None:
        root = run.files.images
        self.altered = altered
        self._root = os.path.realpath(root)
        self._below = f"{ALTERED}/" if altered else ""
        self._store = FolderStore(root)
        self._target = FolderStore(root / self._below)
        self._choices = run.choices
        self._images = run.settings.images
        self._writing = threading.Lock()
        self._folders: set[str] = set()

    def adopt(self, file: SourceFile, image_id: int) -> ImportedFile:
        """Check a file and give it its place as this image of its listing.

        Raises:
            Refused: it is not a whole image, or cannot be read.
            UserError: the disk is full or has no links.
        """
        body = self._read(file)
        try:
            picture = inspect_image(body, self._images.max_pixels)
        except NotAnImage as error:
            raise Refused(Reason.NOT_AN_IMAGE, str(error)) from error
        folder = f"{self._below}{file.listing_id % 1000:03d}"
        name = f"{folder}/{file.listing_id}_{image_id}.{picture.extension}"
        own = self.own_name(file)
        if own is not None and self._choices.adopt == "place":
            name = own
        elif not self._choices.dry and own != name:
            self._put(file, image_id, picture, body, name)
        return ImportedFile(
            name,
            self._choices.size or size_of(picture, self._images.size),
            len(body),
            picture.width,
            picture.height,
            hashlib.sha256(body).digest(),
            int(os.stat(file.path).st_mtime),  # noqa: PTH116 -- hot path, str only
        )

    def own_name(self, file: SourceFile) -> str | None:
        """The file's name in the store, if it is below the store's root."""
        if file.offset is not None or not file.path.startswith(f"{self._root}{os.sep}"):
            return None
        return file.path[len(self._root) + 1 :]

    def holds(self, name: str) -> bool:
        """Whether the store has a file of this name."""
        return self._store.stat(name) is not None

    def is_held(self, file: SourceFile, name: str) -> bool:
        """Whether a file is the store's own one, or of its length: linked or copied before."""
        if self.own_name(file) == name:
            return True
        stored = self._store.stat(name)
        return stored is not None and stored.size_bytes == file.size

    def moves(self, file: SourceFile, name: str) -> bool:
        """Whether a file that the store holds under `name` loses its old name.

        The target of a symbolic link stays where its owner put it.
        """
        return (
            self._choices.adopt == "move"
            and file.offset is None
            and self.own_name(file) != name
            and os.path.realpath(file.path) == file.path
        )

    def was_moved(self, file: SourceFile, name: str, sha256: bytes | None) -> bool:
        """Whether a file that is to move is in the store already, byte for byte, under `name`.

        That is so if a run was killed after it had committed the row.
        """
        return (
            self.moves(file, name)
            and self._is_second_name(file.path, name)
            and hashlib.sha256(self._read(file)).digest() == sha256
        )

    def remove_old_name(self, path: str, name: str) -> bool:
        """Remove the old name of a file that the store holds under `name`; whether it was removed.

        A rehearsal removes nothing, and nothing is removed that might be the only name of the file.
        """
        if self._choices.dry or not self._is_second_name(path, name):
            return False
        Path(path).unlink()
        return True

    def _is_second_name(self, path: str, name: str) -> bool:
        """Whether the store's file would still be there without the one at `path`.

        A symbolic link or a second mount may lead from the store to the same file that is to move.
        """
        final = os.path.realpath(f"{self._root}/{name}")
        try:
            old, new = os.lstat(path), os.stat(final)  # noqa: PTH116 -- hot path, str only
        except FileNotFoundError:
            return False
        if stat.S_ISLNK(old.st_mode) or os.path.realpath(path) == final:
            return False
        same = (old.st_dev, old.st_ino) == (new.st_dev, new.st_ino)
        return old.st_nlink > 1 if same else old.st_size == new.st_size

    def _read(self, file: SourceFile) -> bytes:
        try:
            body = file.read()
        except OSError as error:
            raise Refused(Reason.UNREADABLE, str(error.strerror)) from error
        if len(body) != file.size:
            raise Refused(Reason.INCOMPLETE, f"{len(body):,} of {file.size:,} bytes")
        return body

    def _put(
        self, file: SourceFile, image_id: int, picture: Picture, body: bytes, name: str
    ) -> None:
        """Put the file under its name in the layout."""
        if self._choices.adopt == "copy" or file.offset is not None:
            self._copy(file.listing_id, image_id, picture, body)
            return
        source = os.path.realpath(file.path)
        try:
            self._link(source, name, body)
        except OSError as error:
            if error.errno not in _NO_LINKS or self._choices.adopt != "move":
                raise _cannot(error, source) from error
            self._copy(file.listing_id, image_id, picture, body)
            self._sync_to_disk(name)

    def _link(self, source: str, name: str, body: bytes) -> None:
        final = f"{self._root}/{name}"
        folder = os.path.dirname(final)  # noqa: PTH120 -- hot path, str only
        if folder not in self._folders:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self._folders.add(folder)
        try:
            os.link(source, final)
        except FileExistsError:
            # No row knows that file: a run was killed before its commit, this one or a download's.
            if not os.path.samefile(source, final):  # noqa: PTH121 -- as above
                self._store.spare_foreign(name, body)
                beside = f"{final}.linking"
                Path(beside).unlink(missing_ok=True)
                os.link(source, beside)
                os.replace(beside, final)  # noqa: PTH105 -- as above

    def _copy(self, listing_id: int, image_id: int, picture: Picture, body: bytes) -> None:
        with self._writing:
            try:
                self._target.put(listing_id, image_id, picture.extension, body)
            except NotStored as error:
                raise UserError(
                    f"An image could not be written to {self._root} ({error}): free some disk, then"
                    " run the same command again, which continues from here."
                ) from error

    def _sync_to_disk(self, name: str) -> None:
        """Before the only other copy is removed."""
        descriptor = os.open(f"{self._root}/{name}", os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _cannot(error: OSError, source: str) -> UserError:
    if error.errno in _NO_LINKS:
        return UserError(
            f"{source} cannot be linked into the image folder ({error.strerror}): use"
            " --adopt move, or --adopt copy if the older tool still needs its files."
        )
    return UserError(
        f"{source} could not be put into the image folder ({error.strerror}): fix that,"
        " then run the same command again, which continues from here."
    )
