"""The CDN's sizes: the url of one gives the urls of the others, the pixels give the size."""

import re
from typing import Final

from furnisync.config import SIZES, ImageSize
from furnisync.store.image_format import Picture

_SIZE_IN_URL = re.compile(r"/il_(75x75|170x135|570xN|794xN|1140xN|1588xN|fullxfull)\.")

_WIDTHS: Final[dict[int, ImageSize]] = {570: "570xN", 794: "794xN", 1140: "1140xN", 1588: "1588xN"}
_CROPPED: Final[dict[tuple[int, int], ImageSize]] = {(75, 75): "75x75", (170, 135): "170x135"}
_LARGEST_WIDTH: Final = 1588


def url_of_size(url: str, size: ImageSize) -> str:
    """The url of an image in a size; a url without the CDN's pattern stays as it is."""
    return _SIZE_IN_URL.sub(f"/il_{size}.", url, count=1)


def least_width(size: ImageSize) -> int:
    """The width in pixels below which an image of a size is doubted: a quarter of it."""
    found = re.match(r"\d+", size)
    return 0 if found is None else int(found[0]) // 4


def smaller_than(size: ImageSize) -> tuple[ImageSize, ...]:
    """The sizes that a size is larger than."""
    return SIZES[: SIZES.index(size)]


def size_of(picture: Picture, wanted: ImageSize) -> ImageSize:
    """The CDN size of a picture, by its pixels.

    A picture that is smaller than the wanted size, and has the width of no CDN size, comes from an
    original that is that small: there is no larger one.
    """
    if (cropped := _CROPPED.get((picture.width, picture.height))) is not None:
        return cropped
    if (exact := _WIDTHS.get(picture.width)) is not None:
        return exact
    if picture.width > _LARGEST_WIDTH:
        return "fullxfull"
    at_least: ImageSize = max(
        (size for width, size in _WIDTHS.items() if width < picture.width),
        key=SIZES.index,
        default="75x75",
    )
    return max(wanted, at_least, key=SIZES.index) if picture.width < _width(wanted) else at_least


def _width(size: ImageSize) -> float:
    widths = {size: width for width, size in _WIDTHS.items()}
    return {"75x75": 75, "170x135": 170, "fullxfull": float("inf")}.get(size) or widths[size]
