"""An image of an older listing on its way into the catalogue, with the files that may be it."""

import hashlib
from collections.abc import Iterator, Mapping

import msgspec

from furnisync.catalog.altered import AlteredImage
from furnisync.catalog.imported import HeldOriginal, KnownImage
from furnisync.importer.adopt import Adopted
from furnisync.importer.files import CAME, OldFile
from furnisync.importer.metadata_forms import OldImage


class Task(msgspec.Struct):
    """An image with the files that may be it, and what becomes of it."""

    listing_id: int
    image: OldImage
    files: list[OldFile]
    known: KnownImage | None
    altered: bool = False
    adopted: Adopted | None = None
    refused: list[tuple[OldFile, str]] = []
    doubles: list[OldFile] = []
    moved: list[tuple[str, str]] = []


def kind(task: Task) -> str:
    """What an image is counted as."""
    if task.altered:
        known = task.known is not None
        return "altered pictures " + (
            "adopted" if task.adopted else "known" if known else "refused"
        )
    if task.adopted is not None:
        return "images adopted"
    if task.known is not None and (task.known.file is not None or task.known.has_url):
        return "images known"
    if task.image.gone:
        return "images gone"
    return "images to download" if task.image.url else "images without file and address"


def fates(task: Task) -> Iterator[tuple[OldFile, str]]:
    """What became of each file: `CAME`, or why it was refused."""
    why = {file.number: reason for file, reason in task.refused}
    for file in task.files:
        yield file, why.get(file.number, CAME)


def altered_row(task: Task) -> AlteredImage:
    """The row of an altered picture that was adopted."""
    adopted = task.adopted
    assert adopted is not None
    return AlteredImage(
        task.listing_id,
        task.image.image_id,
        adopted.file,
        adopted.size_bytes,
        adopted.width,
        adopted.height,
        adopted.sha256,
        adopted.stored_at,
    )


def mistaken_originals(
    held: list[HeldOriginal], files: Mapping[int, list[OldFile]]
) -> list[HeldOriginal]:
    """Images whose file is, byte for byte, an altered picture: an import by an older version.

    Only altered files of the very size of the file that we hold are read.
    """
    altered: dict[tuple[int, int], list[OldFile]] = {}
    for group in files.values():
        for file in group:
            if file.altered:
                altered.setdefault((file.listing_id, file.size), []).append(file)
    return [
        one
        for one in held
        if any(
            file.image_id in (None, one.image_id) and _sha256(file) == one.sha256
            for file in altered.get((one.listing_id, one.size_bytes), ())
        )
    ]


def _sha256(file: OldFile) -> bytes | None:
    try:
        return hashlib.sha256(file.read()).digest()
    except OSError:
        return None  # told where it is to be taken
