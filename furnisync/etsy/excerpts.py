"""What the other program needs of an answer of batch, as text for its outbox."""

from collections.abc import Callable

import msgspec

from furnisync.etsy.models import Listing, decode_envelope, raw_fields

__all__ = ["as_answer", "listings_for_discovery", "listings_without_images"]


class _Images(msgspec.Struct):
    images: msgspec.Raw = msgspec.Raw()


_images = msgspec.json.Decoder(_Images)
_DISCOVERY = frozenset(field.encode_name for field in msgspec.structs.fields(Listing))


def listings_without_images(body: bytes) -> bytes:
    """The listings of an answer of batch as a JSON list, without their images.

    The images are cut out of the text: decoding and encoding all other fields takes four times as
    long.
    """
    return b"[" + b",".join(map(_without_images, decode_envelope(body).results)) + b"]"


def _without_images(listing: msgspec.Raw) -> bytes:
    whole = bytes(listing)
    try:
        images = bytes(_images.decode(listing).images)
    except msgspec.DecodeError:
        return whole  # no object: whoever asked tells of it
    if not images:
        return whole
    before, _, after = whole.partition(b'"images":')
    before, after = before.rstrip(), after.lstrip()
    if before.endswith(b",") and after.startswith(images) and b'"images":' not in after:
        return before[:-1] + after[len(images) :]
    return _pick_fields(listing, lambda name: name != "images")


def listings_for_discovery(body: bytes) -> bytes:
    """The listings of an answer of batch as a JSON list, with the fields of `Listing` only."""
    return _pick(body, _DISCOVERY.__contains__)


def as_answer(listings: bytes) -> bytes:
    """A JSON list of listings as an answer of batch."""
    return b'{"results":' + listings + b"}"


def _pick(body: bytes, wanted: Callable[[str], bool]) -> bytes:
    picked = [_pick_fields(raw, wanted) for raw in decode_envelope(body).results]
    return b"[" + b",".join(picked) + b"]"


def _pick_fields(listing: msgspec.Raw, wanted: Callable[[str], bool]) -> bytes:
    try:
        fields = raw_fields.decode(listing)
    except msgspec.DecodeError:
        return bytes(listing)  # no object: whoever asked tells of it
    return msgspec.json.encode({name: fields[name] for name in fields if wanted(name)})
