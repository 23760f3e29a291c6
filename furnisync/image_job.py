"""One image on its way from the queue to the CDN and back: a job goes in, an outcome comes out.

    catalog/image_queue.py --ImageJob--> download/ --ImageOutcome--> catalog/image_queue.py

Plain values that know neither the catalog nor the network, so that both sides can share them. Why
an image is missing is a code with a detail: the program compares codes, people read the words.
"""

from enum import StrEnum
from typing import Final, Literal

import msgspec

__all__ = [
    "REFUSED_BY_SETTINGS",
    "ImageJob",
    "ImageOutcome",
    "ImageReason",
    "ReasonCode",
    "Result",
]

Result = Literal["done", "gone", "bad", "failed"]
"""`done`: stored. `gone`: 404 or 410. `bad`: the answer is no image that we keep, or the address is
not allowed; another try soon would end the same. `failed`: worth another try."""


class ReasonCode(StrEnum):
    """Why an image is not stored, as the catalog keeps it."""

    HTTP_STATUS = "http_status"
    TRANSFER_FAILED = "transfer_failed"
    EMPTY_BODY = "empty_body"
    TRUNCATED = "truncated"
    TOO_FEW_PIXELS = "too_few_pixels"
    SAME_BYTES = "same_bytes"
    NOT_AN_IMAGE = "not_an_image"
    TOO_LARGE = "too_large"
    TOO_MANY_PIXELS = "too_many_pixels"
    URL_REFUSED = "url_refused"
    HOST_REFUSED = "host_refused"
    REDIRECT_REFUSED = "redirect_refused"
    REDIRECT_WITHOUT_TARGET = "redirect_without_target"
    TOO_MANY_REDIRECTS = "too_many_redirects"
    DISK_FULL = "disk_full"
    NOT_WRITTEN = "not_written"
    FOLDER_AWAY = "folder_away"
    DAMAGED = "damaged"
    NOT_AS_RECORDED = "not_as_recorded"
    REPLACED_BY_ALTERED = "replaced_by_altered"
    GONE_AT_IMPORT = "gone_at_import"


REFUSED_BY_SETTINGS: Final = frozenset(
    {
        ReasonCode.HOST_REFUSED,
        ReasonCode.REDIRECT_REFUSED,
        ReasonCode.TOO_LARGE,
        ReasonCode.TOO_MANY_PIXELS,
    }
)
"""Other settings would accept the image."""
_LOCAL: Final = frozenset({ReasonCode.DISK_FULL, ReasonCode.NOT_WRITTEN, ReasonCode.FOLDER_AWAY})

_WORDS: Final[dict[ReasonCode, str]] = {
    ReasonCode.HTTP_STATUS: "{}",
    ReasonCode.TRANSFER_FAILED: "{}",
    ReasonCode.EMPTY_BODY: "empty body",
    ReasonCode.TRUNCATED: "truncated: {}",
    ReasonCode.TOO_FEW_PIXELS: "far fewer pixels than requested: {}",
    ReasonCode.SAME_BYTES: "the same picture came for images of different listings",
    ReasonCode.NOT_AN_IMAGE: "not an image: {}",
    ReasonCode.TOO_LARGE: "larger than {} bytes",
    ReasonCode.TOO_MANY_PIXELS: "too many pixels: {}",
    ReasonCode.URL_REFUSED: "url refused: {}",
    ReasonCode.HOST_REFUSED: "host refused: {} is not in ETSY_CDN_HOSTS",
    ReasonCode.REDIRECT_REFUSED: "redirect to {} refused",
    ReasonCode.REDIRECT_WITHOUT_TARGET: "redirect without a target",
    ReasonCode.TOO_MANY_REDIRECTS: "redirected more than {} times",
    ReasonCode.DISK_FULL: "disk full",
    ReasonCode.NOT_WRITTEN: "not written: {}",
    ReasonCode.FOLDER_AWAY: "the image folder is not here",
    ReasonCode.DAMAGED: "damaged when a run ended",
    ReasonCode.NOT_AS_RECORDED: "the file is not as recorded (verify)",
    ReasonCode.REPLACED_BY_ALTERED: "an altered picture was in its place",
    ReasonCode.GONE_AT_IMPORT: "gone when the older tool asked",
}


class ImageReason(msgspec.Struct, frozen=True):
    """Why an image is not stored.

    Attributes:
        detail: what fills the words of the code: a status, a host, a size.
    """

    code: ReasonCode
    detail: str = ""

    @property
    def is_local(self) -> bool:
        """Our disk failed, not the server: downloads pause, and the image loses no try."""
        return self.code in _LOCAL

    @property
    def words(self) -> str:
        """The reason for a person."""
        return _WORDS[self.code].format(self.detail)


class ImageJob(msgspec.Struct, frozen=True):
    """One image to fetch.

    Attributes:
        url: in the queue as the API gave it, for the downloader of the wanted size.
        held: sha256 of the file that it replaces; None where we hold none.
        untouched: it was neither tried nor held before.
        tries: that failed in a row before this one.
        shop_id: whose image it is, if that is known.
    """

    listing_id: int
    image_id: int
    url: str
    held: bytes | None = None
    untouched: bool = False
    tries: int = 0
    shop_id: int | None = None

    @property
    def key(self) -> tuple[int, int]:
        """Listing and image, the key of its row."""
        return self.listing_id, self.image_id


class ImageOutcome(msgspec.Struct, frozen=True):
    """How a job ended.

    Attributes:
        reason: why it is not done; None where it is.
        file: name of the stored file, relative to the store's root; None, as all that follows,
            where nothing was stored.
        size_bytes: of the stored file.
        width: in pixels.
        height: in pixels.
        sha256: of the stored bytes.
    """

    job: ImageJob
    result: Result
    reason: ImageReason | None = None
    file: str | None = None
    size_bytes: int | None = None
    width: int | None = None
    height: int | None = None
    sha256: bytes | None = None
