"""Typed objects of the API. Fields that Etsy adds, removes or breaks do not stop the program.

Only the fields that we need are decoded here; `WholePage` keeps all of them. Decoded values fit
into the database: a number that is too large becomes None or, if it is the id, makes the object
broken.
"""

import json
from typing import Annotated, Any, Generic, TypeVar

import msgspec

from furnisync.errors import ApiUnavailable

T = TypeVar("T", bound=msgspec.Struct)

Id = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
Whole = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

ACTIVE = "active"
NOT_JSON = "not_json"
"""The kind of failure of an answer that is not the API's, such as a login page."""


class Money(msgspec.Struct, frozen=True):
    """An amount in a currency; the price is amount / divisor."""

    amount: Whole | None = None
    divisor: Whole | None = None
    currency_code: str | None = None

    def value(self) -> float | None:
        """The price in its currency, None if a part is missing."""
        if self.amount is None or not self.divisor:
            return None
        return self.amount / self.divisor


class Image(msgspec.Struct, frozen=True):
    """One image of a listing, `ListingImage` of the reference."""

    listing_image_id: Id
    rank: Whole | None = None
    url_75x75: str | None = None
    url_170x135: str | None = None
    url_570xN: str | None = None  # noqa: N815 -- Etsy's name
    url_fullxfull: str | None = None


class Listing(msgspec.Struct, frozen=True):
    """What discovery needs of a listing, `ShopListing` of the reference.

    Only batch sends `images`; None means that the answer had no such field. An image that cannot
    be decoded is None.
    """

    listing_id: Id
    shop_id: Id | None = None
    taxonomy_id: Id | None = None
    state: str | None = None
    created_timestamp: Whole | None = None
    creation_timestamp: Whole | None = None
    updated_timestamp: Whole | None = None
    last_modified_timestamp: Whole | None = None
    price: Money | None = None
    converted_price: Money | None = None
    images: list[Image | None] | None = None

    @property
    def created(self) -> int | None:
        """Unix seconds; renewal moves it."""
        return self.creation_timestamp or self.created_timestamp

    @property
    def updated(self) -> int | None:
        """Unix seconds of the last change, by Etsy's rules."""
        return self.last_modified_timestamp or self.updated_timestamp

    @property
    def price_usd(self) -> float | None:
        """The price in US dollars, if the answer has it."""
        for money in (self.converted_price, self.price):
            if money is not None and money.currency_code == "USD":
                return money.value()
        return None


class TaxonomyNode(msgspec.Struct, frozen=True):
    """A node of the seller taxonomy; `children` are not decoded yet."""

    id: Id
    name: str | None = None
    parent_id: Id | None = None
    children: list[msgspec.Raw] | None = None


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One answer of a list call.

    Attributes:
        count: Etsy's estimate of the total; None if it is missing.
        items: decoded results, in the answer's order.
        broken: the reason of each result that could not be decoded.
        sent: number of results in the answer, decoded or not.
        body: the answer itself, of batch.
    """

    count: int | None
    items: list[T]
    broken: list[str]
    sent: int
    body: bytes = b""


class WholePage(msgspec.Struct, frozen=True):
    """One answer of a list call with all fields of its results.

    Attributes:
        count: Etsy's estimate of the total; None if it is missing.
        results: the objects as sent.
        broken: number of results that were not objects.
        body: the answer itself, of batch.
    """

    count: int | None
    results: list[dict[str, Any]]
    broken: int = 0
    body: bytes = b""


class _Typed(msgspec.Struct, Generic[T]):
    results: list[T]
    count: msgspec.Raw = msgspec.Raw(b"null")
    error: Any = None


class Envelope(msgspec.Struct):
    """An answer whose results are not decoded yet."""

    results: list[msgspec.Raw]
    count: msgspec.Raw = msgspec.Raw(b"null")
    error: Any = None


# Decoders are made at import: see "Databases and threads" in docs/decisions.md.
_envelope = msgspec.json.Decoder(Envelope)
_count = msgspec.json.Decoder(Whole | None, strict=False)
_anything = msgspec.json.Decoder()
raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
"""The fields of an object, not decoded."""


_raw_list = msgspec.json.Decoder(list[msgspec.Raw])
_pages: dict[type, msgspec.json.Decoder[Any]] = {
    # mypy takes a type that is a value for no type.
    kind: msgspec.json.Decoder(_Typed[kind], strict=False)  # type: ignore[valid-type]
    for kind in (Listing, TaxonomyNode)
}
_objects: dict[type, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind, strict=False) for kind in (Image, Listing, TaxonomyNode)
}
_fields: dict[type, dict[str, msgspec.json.Decoder[Any]]] = {
    kind: {
        field.name: msgspec.json.Decoder(field.type, strict=False)
        for field in msgspec.structs.fields(kind)
    }
    for kind in _objects
}


def decode_page(body: bytes, kind: type[T]) -> Page[T]:
    """Decode `{"count", "results"}`; a broken result does not affect the others.

    Raises:
        ApiUnavailable: the body is not such an answer.
    """
    try:
        whole: _Typed[T] = _pages[kind].decode(body)
    except (ValueError, RecursionError):
        return _decode_each(body, kind)
    _refuse_error(whole.error)
    return Page(_told(whole.count), whole.results, [], len(whole.results))


def _decode_each(body: bytes, kind: type[T]) -> Page[T]:
    """Decode a page of which something is broken."""
    try:
        envelope = decode_envelope(body)
    except (ValueError, RecursionError) as error:
        raise ApiUnavailable(f"malformed answer ({error})", NOT_JSON) from error
    _refuse_error(envelope.error)
    items: list[T] = []
    broken: list[str] = []
    for raw in envelope.results:
        try:
            items.append(decode_object(raw, kind))
        except ValueError as error:
            broken.append(str(error))
    return Page(_told(envelope.count), items, broken, len(envelope.results))


def decode_envelope(body: bytes) -> Envelope:
    """Decode all but the results.

    Raises:
        ValueError, RecursionError: the body is not such an answer.
    """
    try:
        return _envelope.decode(body)
    except msgspec.DecodeError:
        # msgspec refuses half a surrogate pair, which is JSON, and NaN, which is not but occurs.
        text = json.dumps(json.loads(body, parse_constant=lambda _: None), ensure_ascii=False)
        return _envelope.decode(text.encode("utf-8", "replace"))


def _told(count: msgspec.Raw) -> int | None:
    try:
        counted: int | None = _count.decode(count)
    except ValueError:
        return None
    return counted


def decode_whole(body: bytes) -> dict[str, Any]:
    """Decode one object with all its fields.

    Raises:
        ApiUnavailable: the body is not a JSON object.
    """
    try:
        try:
            decoded = _anything.decode(body)
        except msgspec.DecodeError:
            decoded = json.loads(body)  # msgspec refuses half a surrogate pair, which is JSON
    except (ValueError, RecursionError) as error:
        raise ApiUnavailable(f"malformed answer ({error})", NOT_JSON) from error
    if not isinstance(decoded, dict):
        raise ApiUnavailable("malformed answer (no object)", NOT_JSON)
    _refuse_error(decoded.get("error"))
    return decoded


def _refuse_error(error: object) -> None:
    """No object has a field `error`: content beside it, such as an empty list, means nothing."""
    if error:
        raise ApiUnavailable("an error came as an answer")


def decode_whole_page(body: bytes) -> WholePage:
    """Decode `{"count", "results"}` with all fields of the results.

    Raises:
        ApiUnavailable: the body is not such an answer.
    """
    decoded = decode_whole(body)
    results, count = decoded.get("results"), decoded.get("count")
    if not isinstance(results, list):
        raise ApiUnavailable("malformed answer (no results)", NOT_JSON)
    objects = [one for one in results if isinstance(one, dict)]
    counted = count if type(count) is int and 0 <= count < 2**63 else None
    return WholePage(counted, objects, len(results) - len(objects))


def decode_object(raw: msgspec.Raw | bytes, kind: type[T]) -> T:
    """Decode one object; an optional field of a wrong type becomes None.

    Raises:
        ValueError: not an object, or without a usable id.
    """
    try:
        decoded: T = _objects[kind].decode(raw)
    except ValueError:
        return _decode_field_by_field(raw, kind)
    return decoded


def _decode_field_by_field(raw: msgspec.Raw | bytes, kind: type[T]) -> T:
    values = raw_fields.decode(raw)
    usable = {}
    for field in msgspec.structs.fields(kind):
        if field.encode_name not in values:
            if field.required:
                raise ValueError(f"without {field.encode_name}")
            continue
        try:
            usable[field.name] = _fields[kind][field.name].decode(values[field.encode_name])
        except ValueError:
            if field.required:
                raise
            if field.name == "images":
                usable["images"] = _decode_images(values["images"])
    return kind(**usable)


def _decode_images(raw: msgspec.Raw) -> list[Image | None] | None:
    try:
        each = _raw_list.decode(raw)
    except ValueError:
        return None
    return [_image_or_none(one) for one in each]


def _image_or_none(raw: msgspec.Raw) -> Image | None:
    try:
        return decode_object(raw, Image)
    except ValueError:
        return None
