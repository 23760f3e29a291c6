"""The files of the CDN: a pool of drawings for each size, made distinct for each image.

A drawing is encoded once. Two images differ in a comment inside the file, which
costs nothing to write: the CDN must be faster than the downloader that it measures.
"""

from __future__ import annotations

import io
import struct
import threading
import zlib
from typing import TYPE_CHECKING

from furnisync.sandbox.pictures.drawings import aspect_of, draw, full_width_of, grain, jpeg
from furnisync.sandbox.prng import mix

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["SIZES", "Pictures"]

SIZES = ("75x75", "170x135", "570xN", "794xN", "1140xN", "1588xN", "fullxfull")

_BOXES = {"75x75": (75, 75), "170x135": (170, 135)}
_SMALLEST_BYTES = 1_500  # a client may take a body under 1 kB for an error page
_JFIF_END = 20  # a comment goes after the first marker segment
_TUNED_ON = 400  # pixels
_QUALITIES = (80, 50, 25, 10)


class Pictures:
    """The bytes of any image in any size."""

    def __init__(self, image_bytes: int, count: int) -> None:
        self._image_bytes = image_bytes
        self._count = max(1, count)
        self._pool: dict[tuple[str, int], tuple[bytes, bytes]] = {}
        self._strengths: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def number_of(self, image_id: int) -> int:
        """Return which drawing an image shows."""
        return mix(image_id, 6) % self._count

    def full_size(self, image_id: int) -> tuple[int, int]:
        """Return width and height of the image in full size."""
        return self._pixels(self.number_of(image_id), "fullxfull")

    def ready(self, image_id: int, size: str) -> bool:
        """Whether `parts` returns at once; the first image of a drawing takes a while."""
        return (size, self.number_of(image_id)) in self._pool

    def parts(self, image_id: int, size: str) -> tuple[bytes, bytes, bytes]:
        """Return the JPEG of an image as three pieces to be sent one after the other."""
        head, rest = self._base(size, self.number_of(image_id))
        note = b"image %d %s" % (image_id, size.encode())
        return head, b"\xff\xfe" + struct.pack(">H", len(note) + 2) + note, rest

    def jpeg(self, image_id: int, size: str) -> bytes:
        """Return the JPEG of an image."""
        return b"".join(self.parts(image_id, size))

    def other(self, image_id: int, size: str, kind: str) -> bytes:
        """Return the image as "png", "webp" or "gif", as some shops uploaded it."""
        number = self.number_of(image_id)
        image = draw(number, *self._pixels(number, size if size != "fullxfull" else "794xN"))
        note = b"image %d" % image_id
        return {"png": _png, "webp": _webp, "gif": _gif}[kind](image, note)

    def warm(self, size: str) -> None:
        """Make all drawings of a size; for a thread beside the server."""
        for number in range(self._count):
            self._base(size, number)

    def _pixels(self, number: int, size: str) -> tuple[int, int]:
        if size in _BOXES:
            return _BOXES[size]
        width = full_width_of(number) if size == "fullxfull" else int(size.removesuffix("xN"))
        across, down = aspect_of(number)
        return width, round(width * down / across)

    def _base(self, size: str, number: int) -> tuple[bytes, bytes]:
        key = (size, number)
        if key not in self._pool:
            with self._lock:
                if key not in self._pool:
                    body = self._make(size, number)
                    self._pool[key] = (body[:_JFIF_END], body[_JFIF_END:])
        return self._pool[key]

    def _make(self, size: str, number: int) -> bytes:
        image = draw(number, *self._pixels(number, size))
        if size not in self._strengths:
            self._strengths[size] = _tune(image, self._target(image.width, image.height))
        quality, strength = self._strengths[size]
        return jpeg(grain(image, strength, number), quality)

    def _target(self, width: int, height: int) -> int:
        # Larger images are smoother: bytes grow more slowly than pixels.
        return max(_SMALLEST_BYTES, int(self._image_bytes * (width * height / 570**2) ** 0.8))


def _tune(image: Image.Image, target_bytes: int) -> tuple[int, float]:
    """Return quality and noise for an image of any size, mainly from its center.

    The center has more detail than the rest, so one try on the whole image corrects the target.
    """
    if max(image.size) <= _TUNED_ON:
        return _search(image, target_bytes)
    width, height = (min(side, _TUNED_ON) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    middle = image.crop((left, top, left + width, top + height))
    aim = target_bytes * width * height / (image.width * image.height)
    quality, strength = _search(middle, aim)
    return _search(middle, aim * target_bytes / len(jpeg(grain(image, strength, 0), quality)))


def _search(image: Image.Image, target_bytes: float) -> tuple[int, float]:
    """Return the quality and noise with which the image has about the wanted size."""
    quality = next((q for q in _QUALITIES if len(jpeg(image, q)) < target_bytes), _QUALITIES[-1])
    low, high = 0.0, 60.0
    for _ in range(7):
        middle = (low + high) / 2
        if len(jpeg(grain(image, middle, 0), quality)) < target_bytes:
            low = middle
        else:
            high = middle
    return quality, low


def _saved(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def _png(image: Image.Image, note: bytes) -> bytes:
    body = _saved(image, "PNG")
    chunk = b"tEXtComment\0" + note
    end = len(body) - 12  # the last chunk, IEND
    extra = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return body[:end] + extra + body[end:]


def _gif(image: Image.Image, note: bytes) -> bytes:
    return _saved(image, "GIF")[:-1] + b"\x21\xfe" + bytes([len(note)]) + note + b"\0\x3b"


def _webp(image: Image.Image, note: bytes) -> bytes:
    padded = note + b"\0" * (len(note) % 2)
    body = _saved(image, "WEBP") + b"note" + struct.pack("<I", len(note)) + padded
    return body[:4] + struct.pack("<I", len(body) - 8) + body[8:]
