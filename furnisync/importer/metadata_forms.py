"""Every form in which the older tool wrote a listing, read as one: `SourceListing`.

| value in `image_metadata.json`, or row of `image_status`                 | meaning               |
| ------------------------------------------------------------------------ | --------------------- |
| `1234567890`                                                             | the first image's id  |
| `"404"`, `"no_images"`, `"cdn_error"`, `"http_500"`, any other word      | why there is none     |
| `{image_id, shop_id}`, also with `hex`, `suffix`, `when_made`            | the first image       |
| `{shop_id, images: [{image_id, hex, suffix, is_primary}], when_made}`    | all images            |
| `{shop_id, images: [{image_id, rank, url, file, status}]}`               | our own present form  |
| (listing_id, image_id, is_primary, url or hex and suffix, download_done) | one of the images     |

The image id 9999999999 means that a download failed, 0 that a listing has no images.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from furnisync.config import ImageSize
from furnisync.history.fields.values import as_id, as_json
from furnisync.importer.report import Reason

FAILED_IMAGE_ID: Final = 9_999_999_999
FAILED_WORD: Final = "download failed"
GONE: Final = -1
"""`download_done` of an image that the CDN no longer had."""
_WORD_DIGITS: Final = 5
"""A text of more digits than this is an id; of fewer, an HTTP status."""
_PART: Final = re.compile(r"[0-9A-Za-z]{1,64}")
_MAX_URL: Final = 2000
_MAX_SHOWN: Final = 200


class SourceImage(msgspec.Struct, frozen=True):
    """An image of a listing.

    Attributes:
        rank: 1 is shown first.
        url: empty where the older tool did not keep what it takes.
        gone: the CDN no longer had it.
    """

    image_id: int
    rank: int
    url: str = ""
    gone: bool = False


class SourceListing(msgspec.Struct, frozen=True):
    """What the older tool knew of a listing.

    Attributes:
        images: by rank, none twice.
        complete: all of its images are named, not just the first.
        word: why it has no image, in the older tool's word.
        broken: its images that have no valid id, as JSON.
    """

    listing_id: int
    shop_id: int | None = None
    images: tuple[SourceImage, ...] = ()
    complete: bool = False
    word: str | None = None
    broken: tuple[str, ...] = ()


class BrokenEntry(ValueError):
    """An entry has nothing that can be used."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.words}: {detail}")
        self.reason = reason
        self.detail = detail


def read_entry(key: object, value: Any, size: ImageSize) -> SourceListing:
    """Read an entry of `image_metadata.json`.

    Args:
        key: the listing's id, as text.
        value: any JSON value.
        size: CDN size of the urls that are made from hex and suffix.

    Raises:
        BrokenEntry: the key is not an id, or the value has no known form.
    """
    listing_id = _positive(key)
    if listing_id is None:
        raise BrokenEntry(Reason.NO_LISTING_ID, _shown(key))
    if isinstance(value, str) and not (value.isdecimal() and len(value) > _WORD_DIGITS):
        if not value.strip():
            raise BrokenEntry(Reason.EMPTY_ENTRY)
        return SourceListing(listing_id, word=value.strip()[:_MAX_SHOWN])
    if isinstance(value, dict):
        return _read_object(listing_id, value, size)
    return _read_images(listing_id, None, [{"image_id": value}], size, complete=False)


def read_rows(key: object, rows: Sequence[Mapping[str, Any]], size: ImageSize) -> SourceListing:
    """Read the rows of a listing in `image_status`, the first image first.

    Raises:
        BrokenEntry: the key is not an id, or the only row has no image id.
    """
    if not isinstance(key, int) or key <= 0:
        raise BrokenEntry(Reason.NO_LISTING_ID)
    shop_id = next((found for row in rows if (found := _positive(row.get("shop_id")))), None)
    images = [row for row in rows if row.get("image_id") != 0]
    if not images:
        return SourceListing(key, shop_id)
    return _read_images(key, shop_id, images, size, complete=len(images) == len(rows))


def _read_object(listing_id: int, value: dict[str, Any], size: ImageSize) -> SourceListing:
    shop_id = _positive(value.get("shop_id"))
    images = value.get("images")
    if isinstance(images, list):
        return _read_images(listing_id, shop_id, images, size, complete=True)
    if value.get("image_id") is not None:
        return _read_images(listing_id, shop_id, [value], size, complete=False)
    word = value.get("error") or value.get("reason")
    if shop_id is None and not isinstance(word, str):
        raise BrokenEntry(Reason.NO_SHOP_OR_IMAGE, _shown(value))
    return SourceListing(listing_id, shop_id, word=word if isinstance(word, str) else None)


def _read_images(
    listing_id: int, shop_id: int | None, images: list[Any], size: ImageSize, *, complete: bool
) -> SourceListing:
    found: dict[int, SourceImage] = {}
    broken: list[str] = []
    word = None
    for place, one in enumerate(images, start=1):
        image = one if isinstance(one, Mapping) else {"image_id": one}
        image_id = _positive(image.get("image_id", image.get("listing_image_id")))
        if image_id is None:
            broken.append(_shown(one))
        elif image_id == FAILED_IMAGE_ID:
            word = FAILED_WORD
        elif image_id not in found:
            rank = _positive(image.get("rank")) or (place if not image.get("is_primary") else 0)
            gone = image.get("download_done") == GONE or image.get("status") == "gone"
            url = _url(image, shop_id, image_id, size)
            found[image_id] = SourceImage(image_id, rank, url, gone)
    if broken and not found and len(images) == 1:
        raise BrokenEntry(Reason.NO_IMAGE_ID, broken[0])
    ranked = sorted(found.values(), key=lambda image: image.rank)
    return SourceListing(
        listing_id,
        shop_id,
        _with_ranks(ranked),
        complete=complete and not broken and word is None,
        word=word if not found else None,
        broken=tuple(broken),
    )


def _with_ranks(images: list[SourceImage]) -> tuple[SourceImage, ...]:
    """Ranks from 1 on if a primary image was moved to the front or two are equal; else as given."""
    ranks = [image.rank for image in images]
    if 0 in ranks or len(set(ranks)) < len(ranks):
        images = [
            msgspec.structs.replace(image, rank=rank) for rank, image in enumerate(images, start=1)
        ]
    return tuple(images)


def _url(image: Mapping[str, Any], shop_id: int | None, image_id: int, size: ImageSize) -> str:
    """The url that was kept, or the CDN's pattern with hex and suffix; empty without either."""
    url = image.get("url")
    if isinstance(url, str) and url.startswith(("https://", "http://")) and len(url) <= _MAX_URL:
        return url
    code, suffix = image.get("hex"), image.get("suffix")
    if not all(isinstance(part, str) and _PART.fullmatch(part) for part in (code, suffix)):
        return ""
    shop = _positive(image.get("shop_id")) or shop_id
    # Without the shop the CDN has a shorter address, which the older tool used itself.
    folder = f"{shop}/r/il" if shop else "il"
    return f"https://i.etsystatic.com/{folder}/{code}/{image_id}/il_{size}.{image_id}_{suffix}.jpg"


def _positive(value: object) -> int | None:
    number = None if isinstance(value, bool) else as_id(value)
    return number if number is not None and number > 0 else None


def _shown(value: object) -> str:
    return as_json(value)[:_MAX_SHOWN]
