"""How the values of API objects become the values of rows.

| kind    | SQL     | from JSON                                                                |
| ------- | ------- | ------------------------------------------------------------------------ |
| `int`   | INTEGER | a whole number; also `3.0` and `"3"`, which mean the same                |
| `bool`  | INTEGER | `true` 1, `false` 0; also `0`, `1`, `"true"`, `"false"`                  |
| `float` | REAL    | a finite number, also as text                                            |
| `text`  | TEXT    | a string, unchanged, including NUL characters                            |
| `json`  | TEXT    | any value, as compact JSON                                               |
| `money` | three   | `{amount, divisor, currency_code}` as `price_amount`, `price_divisor`... |

null and an absent field are NULL. A value of another type does not stop a run and is not lost:
the column gets the nearest correct value (often NULL), and the table `oddities` the original.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec

from furnisync.history.fields.definitions import Field

Value = int | float | str | None
Object = Mapping[str, Any]
"""A JSON object as the API sent it."""

_LARGEST_DIVISOR: Final = 10**12
_BOUND: Final = 2**63


@dataclass(frozen=True, slots=True)
class Oddity:
    """A value that did not fit its column: the name of the field and the value as ASCII JSON."""

    field: str
    value: str


class _Odd(Exception):
    """A value does not fit; `nearest` is what the column gets instead."""

    def __init__(self, nearest: Value = None) -> None:
        self.nearest = nearest


class Converter:
    """Turns API objects into the values of some fields, in the order of `columns`."""

    def __init__(self, fields: Iterable[Field]) -> None:
        self.fields = tuple(fields)
        self.columns = tuple(name for field in self.fields for name, _ in field.columns)
        self._plan = [
            (field.name, field.twin, _CONVERT.get(field.kind), field.kind == "int")
            for field in self.fields
        ]

    def values(self, sent: Object, oddities: list[Oddity]) -> list[Value]:
        """The values of the columns; values that do not fit are added to `oddities`."""
        row: list[Value] = []
        for name, twin, convert, whole in self._plan:
            value = sent.get(name)
            if value is None and twin is not None:
                value = sent.get(twin)
            if convert is None:
                row += _money(name, value, oddities)
            elif value is None or (value.__class__ is int and -_BOUND <= value < _BOUND and whole):
                row.append(value)
            else:
                try:
                    row.append(convert(value))
                except _Odd as odd:
                    row.append(odd.nearest)
                    oddities.append(Oddity(name, as_json(value)))
        return row


def as_json(value: Any) -> str:
    """Compact ASCII JSON, whatever the value: huge integers, NaN, halves of a surrogate pair."""
    return json.dumps(value, separators=(",", ":"), default=repr)


def as_id(value: Any) -> int | None:
    """An id as the API sent it, or None if it cannot be the key of a row."""
    try:
        return None if value is None else _int(value)
    except _Odd:
        return None


def _int(value: Any) -> int:
    if type(value) is int:
        if -(2**63) <= value < 2**63:
            return value
    elif isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
        return int(value)
    elif isinstance(value, str) and len(value) <= 20 and value.isascii():
        digits = value.removeprefix("-")
        if digits.isdigit() and str(int(value)) == value:
            return _int(int(value))
    raise _Odd


def _bool(value: Any) -> int:
    if value is True:
        return 1
    if value is False:
        return 0
    if value in (0, "false", "0"):
        return 0
    if value in (1, "true", "1"):
        return 1
    raise _Odd


def _float(value: Any) -> float:
    if type(value) is float and math.isfinite(value):
        return value
    if type(value) is int and abs(value) <= 2**53:
        return float(value)
    if isinstance(value, str):
        number = _decimal(value)
        if number is not None and math.isfinite(float(number)):
            return float(number)
    raise _Odd


def _text(value: Any) -> str:
    if type(value) is not str:
        raise _Odd(_json_or_ascii(value))
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:  # half a surrogate pair is no character: SQLite refuses it
            raise _Odd(_printable(value)) from None
    return value


def _json(value: Any) -> str:
    if type(value) is not list and type(value) is not dict:
        raise _Odd(_json_or_ascii(value))
    return _json_or_ascii(value)


def _json_or_ascii(value: Any) -> str:
    """JSON with its characters unescaped, or escaped if they cannot be stored."""
    try:
        return msgspec.json.encode(value).decode()
    except (UnicodeError, OverflowError, TypeError, ValueError, msgspec.MsgspecError):
        return as_json(value)


def _printable(text: str) -> str:
    """U+FFFD in place of lone surrogates."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


_CONVERT: Final[Mapping[str, Callable[[Any], Value]]] = {
    "int": _int,
    "bool": _bool,
    "float": _float,
    "text": _text,
    "json": _json,
}


def _money(name: str, value: Any, oddities: list[Oddity]) -> tuple[Value, Value, Value]:
    """Amount, divisor and currency; a price in another form becomes a fraction."""
    if value is None:
        return None, None, None
    if type(value) is dict:
        amount, divisor = value.get("amount"), value.get("divisor")
        currency = value.get("currency_code")
        try:
            return (
                None if amount is None else _int(amount),
                None if divisor is None else _int(divisor),
                None if currency is None else _text(currency),
            )
        except _Odd:
            pass
    else:
        amount, divisor, currency = value, 1, None
    oddities.append(Oddity(name, as_json(value)))
    fraction = _fraction(amount, as_id(divisor))
    return (*fraction, currency if type(currency) is str and currency.isascii() else None)


def _fraction(amount: Any, divisor: int | None) -> tuple[int | None, int | None]:
    """The same fraction in whole numbers: 12.5 / 100 is 125 / 1000."""
    number = _decimal(amount)
    if number is None or divisor is None:
        return as_id(amount), divisor
    while number != number.to_integral_value() and abs(divisor) < _LARGEST_DIVISOR:
        number, divisor = number * 10, divisor * 10
    if number != number.to_integral_value() or abs(number) >= 2**63:
        return None, None
    return int(number), divisor


def _decimal(value: Any) -> Decimal | None:
    """The number, sent as a number or as text; None if it is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or len(str(value)) > 40:
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
