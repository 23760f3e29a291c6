"""Headers of an HTTP answer: from lines to names, and the two that tell times."""

from collections.abc import Iterable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

__all__ = ["parse_headers", "read_date", "read_retry_after"]

UNIX_TIMES_S = 1e9
"""A number of seconds from here on, 30 years, is not a wait but a unix time."""


def parse_headers(lines: Iterable[bytes]) -> dict[str, str]:
    """The headers of the last answer in `lines`, names in lower case, repeated ones joined.

    A proxy's and interim answers come before it, each with a status line of its own.
    """
    headers: dict[str, str] = {}
    for line in lines:
        if line.startswith(b"HTTP/"):
            headers.clear()
            continue
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            name, value = name.strip().lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def read_date(text: str | None) -> float | None:
    """The unix time (seconds) that an HTTP date says; None where it says none."""
    if text is None:
        return None
    try:
        date = parsedate_to_datetime(text)
        # HTTP dates are in GMT, also where a server leaves the zone out.
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def read_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """How long `retry-after` asks us to wait, in seconds, 0 or more; None where it says nothing.

    A date is compared with the server's own `date`: a clock that is wrong, theirs or ours, must
    not make a wait of hours.

    Args:
        headers: names in lower case.
        now: our unix time in seconds, for an answer without a `date`.
    """
    asked = headers.get("retry-after", "")
    until = read_date(asked)
    if asked.isascii() and asked.replace(".", "", 1).isdigit():
        if float(asked) < UNIX_TIMES_S:
            return float(asked)
        until = float(asked)
    if until is None:
        return None
    sent = read_date(headers.get("date"))
    return max(0.0, until - (now if sent is None else sent))
