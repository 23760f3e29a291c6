"""Is this body a whole image, of which format and size? Answered from the bytes, without decoding.

Headers are parsed here and not by a library. For a JPEG of 45 kB `Image.open` of Pillow takes 15 us
(81 us for a WebP: it allocates the canvas first), `imagesize` 9 us and the code below 4 us. sha256
of the same body takes 23 us and all that a bare download loop does 55 us, so that Pillow alone
would cost a fourth of the speed. And none of them notices a truncated file.

What is sure: the format, the size in pixels, and that the file has its end. Every strict prefix
of an image is refused. What is not sure: the pixels. Only decoding, at 100 times the cost, would
show a change there. Random bytes behind a good JPEG header are noticed by their impossible markers.
"""

import re
import struct
import zlib
from typing import Literal, NamedTuple

import msgspec

from furnisync.errors import Terminal
from furnisync.image_job import ImageReason, ReasonCode

__all__ = ["Extension", "NotAnImage", "Picture", "inspect_image"]

Extension = Literal["jpg", "png", "webp", "gif"]


class Picture(msgspec.Struct, frozen=True):
    """Format (as the extension of its file) and size in pixels."""

    extension: Extension
    width: int
    height: int


class NotAnImage(Terminal):
    """The body is not a whole image that we keep.

    Attributes:
        reason: TRUNCATED where it begins as an image and lacks its end: another try may bring it.
    """

    def __init__(self, code: ReasonCode, detail: str) -> None:
        self.reason = ImageReason(code, detail)
        super().__init__(self.reason.words)


def inspect_image(body: bytes, max_pixels: int) -> Picture:
    """Check that `body` is one whole JPEG, PNG, WebP or GIF.

    Args:
        body: all of it. Bytes after the image's end are tolerated, as browsers do.
        max_pixels: refuse more (width times height): a small file of many pixels fills the memory
            of a program that decodes it.

    Raises:
        NotAnImage: it is anything else. Nothing else is ever raised.
    """
    try:
        picture = _read(body)
    except (IndexError, struct.error) as error:
        # All reads are in order, so that a read past the end is a file that stops too early.
        raise _truncated("its headers stop short") from error
    if picture.width < 1 or picture.height < 1:
        raise _no_image(f"{picture.width} x {picture.height} pixels")
    if picture.width * picture.height > max_pixels:
        size = f"{picture.width:,} x {picture.height:,}"
        raise NotAnImage(ReasonCode.TOO_MANY_PIXELS, size)
    return picture


def _read(body: bytes) -> Picture:
    if body.startswith(b"\xff\xd8\xff"):
        return Picture("jpg", *_read_jpeg(body))
    if body.startswith(_PNG):
        return Picture("png", *_read_png(body))
    if body.startswith(b"RIFF") and body[8:12] == b"WEBP":
        return Picture("webp", *_read_webp(body))
    if body.startswith((b"GIF87a", b"GIF89a")):
        return Picture("gif", *_read_gif(body))
    raise _no_image(_name_content(body))


def _truncated(detail: str) -> NotAnImage:
    return NotAnImage(ReasonCode.TRUNCATED, detail)


def _no_image(detail: str) -> NotAnImage:
    return NotAnImage(ReasonCode.NOT_AN_IMAGE, detail)


def _broken(what: str) -> NotAnImage:
    return _no_image(f"broken {what}")


# --- JPEG

_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = frozenset({0xC0, 0xC1})  # Huffman-coded; one scan may hold the whole picture
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
_SOS, _EOI = 0xDA, 0xD9
# What may stand between two scans: tables, restart interval, comments, application data.
_BETWEEN_SCANS = frozenset({0xC4, 0xCC, _SOS, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE})
# In coded data FF is followed by 00 (a stuffed byte), a restart marker or a fill byte, else
# the data ends there.
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
# Of the 256 bytes after FF ten are good and one ends the picture: random bytes pass where an end
# comes by chance, neither too early nor after another marker; 3 in 10,000 at 570 x 600 pixels.
_LOOKED_AT = 4096


class _Frame(NamedTuple):
    """What the frame header of a JPEG says."""

    height: int
    width: int
    components: int


def _read_jpeg(body: bytes) -> tuple[int, int]:
    """Walk marker by marker to the end of the image; size in pixels."""
    frame: _Frame | None = None
    sequential = False
    position = 2
    while True:
        marker, position = _next_marker(body, position)
        if marker in _ALONE:
            continue
        length = _segment_length(body, position)
        if marker in _SOF and frame is None:
            frame = _Frame(*struct.unpack_from(">HHB", body, position + 3))
            sequential = marker in _SEQUENTIAL
        elif marker == _SOS and frame:
            break
        elif marker < 0xC0 or marker in _SOF or marker in (_SOS, _EOI):
            raise _broken("JPEG, its markers")
        position += length
    if sequential and body[position + 2] == frame.components:
        _check_one_scan(body, position + length, frame.width * frame.height)
    else:
        _check_scans(body, position + length)
    return frame.width, frame.height


def _next_marker(body: bytes, position: int) -> tuple[int, int]:
    """The marker at `position` and where it ends; fill bytes are passed over."""
    if body[position] != 0xFF:
        raise _broken("JPEG, its markers")
    marker = body[position + 1]
    while marker == 0xFF:
        position += 1
        marker = body[position + 1]
    return marker, position + 2


def _segment_length(body: bytes, position: int) -> int:
    length = body[position] << 8 | body[position + 1]
    if length < 2:
        raise _broken("JPEG, an empty segment")
    return length


def _check_one_scan(body: bytes, position: int, pixels: int) -> None:
    """Find the end of an image whose only scan's data begins at `position`."""
    # Each block of 64 pixels takes two bits at least; halved for odd samplings.
    earliest_end = position + pixels // 512
    if body.endswith(b"\xff\xd9") and len(body) - 2 >= earliest_end:
        # By far the most images. Nothing but coded data is left, where FFD9 can only be the end:
        # the beginning is looked at, the rest (12 us for 45 kB) is not.
        found = _SCAN_END.search(body, position, position + _LOOKED_AT)
        if found is None or found.end() == len(body):
            return
    found = _SCAN_END.search(body, position)
    if found is None:
        raise _truncated("no end of the JPEG")
    if body[found.end() - 1] != _EOI or found.start() < earliest_end:
        raise _broken("JPEG, its coded data")


def _check_scans(body: bytes, position: int) -> None:
    """Find the end of an image of several scans, behind the first one's header."""
    while True:
        found = _SCAN_END.search(body, position)
        if found is None:
            raise _truncated("no end of the JPEG")
        marker, position = body[found.end() - 1], found.end()
        if marker == _EOI:
            return
        if marker not in _BETWEEN_SCANS:
            raise _broken("JPEG, its coded data")
        position += _segment_length(body, position)


# --- PNG

_PNG = b"\x89PNG\r\n\x1a\n"


def _read_png(body: bytes) -> tuple[int, int]:
    """Walk chunk by chunk, checksums too, to IEND; size in pixels."""
    if body[12:16] != b"IHDR":
        raise _truncated("its headers stop short") if len(body) < 16 else _broken("PNG")
    size: tuple[int, int] = struct.unpack_from(">II", body, 16)
    position, data_seen = len(_PNG), False
    view = memoryview(body)
    while True:
        length, kind = struct.unpack_from(">I4s", body, position)
        end = position + 8 + length
        (checksum,) = struct.unpack_from(">I", body, end)
        if zlib.crc32(view[position + 4 : end]) != checksum:
            raise _broken("PNG, a checksum")
        if kind == b"IEND":
            break
        data_seen = data_seen or kind == b"IDAT"
        position = end + 4
    if not data_seen:
        raise _broken("PNG, no picture in it")
    return size


# --- GIF


def _read_gif(body: bytes) -> tuple[int, int]:
    """Walk block by block to the trailer; size in pixels of the canvas."""
    size: tuple[int, int] = struct.unpack_from("<HH", body, 6)
    position = 13 + _colour_table(body[10])
    frame_seen = False
    while True:
        introducer = body[position]
        if introducer == 0x3B:
            break
        if introducer == 0x2C:  # a frame: descriptor, own colours, code size, data
            frame_seen = True
            position += 10 + _colour_table(body[position + 9]) + 1
        elif introducer == 0x21:  # an extension: its label, data
            position += 2
        else:
            raise _broken("GIF, its blocks")
        while body[position]:
            position += 1 + body[position]
        position += 1
    if not frame_seen:
        raise _broken("GIF, no picture in it")
    return size


def _colour_table(flags: int) -> int:
    """Bytes that a colour table takes."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


# --- WebP


def _read_webp(body: bytes) -> tuple[int, int]:
    """Compare the announced length with the real one, walk the chunks; size in pixels."""
    (announced,) = struct.unpack_from("<I", body, 4)
    if announced + 8 > len(body):
        raise _truncated(f"{len(body):,} of {announced + 8:,} bytes")
    size: tuple[int, int] | None = None
    position, end = 12, announced + 8
    data_seen = False
    while position + 8 <= end:
        kind, length = struct.unpack_from("<4sI", body, position)
        if position + 8 + length > end:
            raise _broken("WebP, its chunks")
        size = size or _webp_size(kind, body, position + 8)
        data_seen = data_seen or kind in (b"VP8 ", b"VP8L", b"ANMF")
        position += 8 + length + (length & 1)
    if size is None or not data_seen:
        raise _broken("WebP, no picture in it")
    return size


def _webp_size(kind: bytes, body: bytes, position: int) -> tuple[int, int] | None:
    """Size as the first chunk of an image says it: extended, lossy or lossless."""
    if kind == b"VP8X":
        low_w, high_w, low_h, high_h = struct.unpack_from("<HBHB", body, position + 4)
        return (low_w | high_w << 16) + 1, (low_h | high_h << 16) + 1
    if kind == b"VP8 ":
        if body[position + 3 : position + 6] != b"\x9d\x01\x2a":
            raise _broken("WebP, its frame")
        width, height = struct.unpack_from("<HH", body, position + 6)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        if body[position] != 0x2F:
            raise _broken("WebP, its frame")
        (bits,) = struct.unpack_from("<I", body, position + 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None


# --- What else the body may be

_CONTENTS: tuple[tuple[bytes, str], ...] = (
    (b"%pdf", "PDF"),
    (b"\x1f\x8b", "gzip"),
    (b"bm", "BMP"),
    (b"ii*\0", "TIFF"),
    (b"mm\0*", "TIFF"),
    (b"{", "JSON"),
    (b"[", "JSON"),
    (b"<svg", "SVG"),
    (b"<?xml", "XML"),
    (b"<", "HTML"),
)


def _name_content(body: bytes) -> str:
    """Name what came instead, for a person."""
    if not body:
        return "empty"
    if body[4:12] in (b"ftypavif", b"ftypavis"):
        return "AVIF"
    head = body[:512].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    named = next((name for magic, name in _CONTENTS if head.startswith(magic)), None)
    if named == "XML" and b"<svg" in head:
        named = "SVG"
    if named:
        return f"{named}, {len(body):,} bytes"
    text = all(byte >= 32 or byte in b"\t\r\n" for byte in head)
    return f"{'text' if text else 'unknown bytes'}, {len(body):,} bytes"
