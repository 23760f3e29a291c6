"""Where image bytes are kept. Callers see a `Store`; `folder.py` is the one that exists today.

A name is opaque to callers and relative to the store's root. It is made of numbers that we know and
an extension of our own list, never of anything that a response said.
"""

from typing import BinaryIO, Protocol

import msgspec

from furnisync.errors import Transient
from furnisync.image_job import ImageReason

__all__ = ["NotStored", "Store", "StoredFile"]


class NotStored(Transient):
    """A body could not be written; nothing of it is left.

    Attributes:
        reason: one that `is_local`.
    """

    def __init__(self, reason: ImageReason) -> None:
        super().__init__(reason.words)
        self.reason = reason


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
        """Keep a body, whole or not at all; it replaces an older one of the same image.

        Args:
            listing_id: of the image.
            image_id: likewise.
            extension: `jpg`, `png`, `webp` or `gif`.
            body: the file.
            held: sha256 of the file that it replaces. Any other whole picture under the name is
                not ours: it is kept under another name.

        Returns:
            The file's name, with `/`.

        Raises:
            NotStored: the disk is full or cannot be written.
            ValueError: a negative id or an unknown extension.
        """
        ...

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a name that leads out of the root.
        """
        ...

    def stat(self, name: str) -> StoredFile | None:
        """Size of a file; None where there is none.

        Raises:
            ValueError: a name that leads out of the root.
        """
        ...

    def remove(self, name: str) -> bool:
        """Remove a file for good; whether there was one.

        Raises:
            ValueError: a name that leads out of the root.
            OSError: it cannot be removed.
        """
        ...
