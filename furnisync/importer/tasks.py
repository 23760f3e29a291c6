"""An image of the older tool with the files that may be it, on its way into the catalog."""

import hashlib
from collections.abc import Mapping

import msgspec

from furnisync.catalog.imported import ImportedFile, ImportedImage, KnownImage, KnownImages
from furnisync.image_job import ReasonCode
from furnisync.importer.adopt import Adopter, Refused
from furnisync.importer.files import IMPORTED, SourceFile
from furnisync.importer.metadata_forms import SourceImage
from furnisync.importer.report import Reason


class Task(msgspec.Struct):
    """An image and its files; `settle` finds the one that is the image.

    Attributes:
        known: its row in the catalog.
        adopter: gives files their place.
        adopted: the file that became ours.
        outcomes: outcome and detail of each file.
        moved: files that are to go, with the name of ours, once the row is committed.
    """

    listing_id: int
    image: SourceImage
    files: list[SourceFile]
    known: KnownImage | None
    adopter: Adopter
    adopted: ImportedFile | None = None
    outcomes: list[tuple[SourceFile, str, str]] = []
    moved: list[tuple[str, str]] = []

    def settle(self) -> None:
        """Find the file that is the image; runs in a thread."""
        held = self.known.file if self.known else None
        sha256 = self.known.sha256 if self.known else None
        for file in self.files:
            outcome, detail = IMPORTED, ""
            try:
                if held is None:
                    self.adopted = self.adopter.adopt(file, self.image.image_id)
                    held, sha256 = self.adopted.file, self.adopted.sha256
                    if self.adopter.moves(file, held):
                        self.moved.append((file.path, held))
                elif self.adopter.was_moved(file, held, sha256):
                    self.moved.append((file.path, held))
                elif not self.adopter.is_held(file, held):
                    outcome, detail = Reason.ALREADY_HERE, f"image {self.image.image_id}"
            except Refused as refused:
                outcome, detail = refused.reason, refused.detail
            self.outcomes.append((file, outcome, detail))

    @property
    def label(self) -> str:
        """The counter of the screen."""
        if self.adopter.altered:
            known = "known" if self.known else "refused"
            return f"altered images {'adopted' if self.adopted else known}"
        if self.adopted:
            return "images adopted"
        if self.known and (self.known.file or self.known.has_url):
            return "images known"
        if self.image.gone:
            return "images gone"
        return "images to download" if self.image.url else "images without file and address"

    def row(self, status: str, next_try: int | None, reason: ReasonCode | None) -> ImportedImage:
        """Its row in the catalog."""
        image = self.image
        return ImportedImage(
            self.listing_id,
            image.image_id,
            image.rank,
            image.url,
            status,
            next_try,
            reason,
            self.adopted,
        )


def replaced_by_altered(
    known: KnownImages, files: Mapping[int, list[SourceFile]]
) -> list[tuple[int, int]]:
    """(listing_id, image_id) of known images whose file is, byte for byte, an altered image.

    An earlier version imported them as originals. Only altered files of the size of our file are
    read.
    """
    return [
        (listing_id, image_id)
        for listing_id, images in known.items()
        for image_id, image in images.items()
        if any(_is_same(file, image_id, image) for file in files.get(listing_id, ()))
    ]


def _is_same(file: SourceFile, image_id: int, image: KnownImage) -> bool:
    if not file.altered or file.size != image.size_bytes or file.image_id not in (None, image_id):
        return False
    try:
        return image.file is not None and hashlib.sha256(file.read()).digest() == image.sha256
    except OSError:
        return False  # reported when it is to be imported
