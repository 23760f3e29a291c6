"""How faults change an answer of the API."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Any

import msgspec

from furnisync.sandbox.server.calls import ApiResult

if TYPE_CHECKING:
    from furnisync.sandbox.server.faults import Rule

__all__ = ["HTML_503", "LOGIN_PAGE", "break_off", "cut_off", "hold", "shows", "spoil"]

LOGIN_PAGE = (
    b"<html><head><title>Sign in</title></head><body>Please accept the terms.</body></html>"
)
HTML_503 = b"<!DOCTYPE html><html><head><title>503</title></head><body>Back soon.</body></html>"

_HANG_S = 3600.0
_SLICE_S = 0.1


async def hold(transport: asyncio.BaseTransport, seconds: float) -> None:
    """Wait, unless the client disconnects."""
    while seconds > 0 and not transport.is_closing():
        slice_s = min(seconds, _SLICE_S)
        await asyncio.sleep(slice_s)
        seconds -= slice_s


def break_off(transport: asyncio.BaseTransport) -> None:
    """Reset the connection, instead of closing it."""
    raw = transport.get_extra_info("socket")
    if raw is not None and not transport.is_closing():
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()


async def cut_off(rule: Rule, transport: asyncio.BaseTransport, body: bytes, date: str) -> bool:
    """Apply a rule to the connection; return whether the connection is finished."""
    if rule.do == "slow":
        await hold(transport, float(rule.details.get("seconds", 1.0)))
        return False
    if rule.do == "hang":
        await hold(transport, float(rule.details.get("seconds", _HANG_S)))
    elif rule.do == "reset_mid_body" and isinstance(transport, asyncio.WriteTransport):
        head = (
            f"HTTP/1.1 200 OK\r\ndate: {date}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        transport.write(head.encode() + body[: len(body) // 2])
        await asyncio.sleep(0.02)  # let the first half arrive
    elif rule.do != "reset":
        return False
    break_off(transport)
    return True


def shows(rule: Rule, answer: ApiResult) -> bool:
    """Whether a rule that is about answers with some id (`shows`) applies to this one."""
    if "shows" not in rule.details:
        return True
    wanted = b":%d," % int(rule.details["shows"])
    return any(wanted in item for item in answer.results)


def _damage(rule: Rule, answer: ApiResult) -> ApiResult:
    """Return the answer with its list damaged by the rule."""
    items = list(answer.results)
    count = answer.count
    single = answer.single
    if rule.do == "count_off":
        count = max(0, round(count * float(rule.details.get("factor", 1.0))))
        count = max(0, count + int(rule.details.get("by", 0)))
    elif rule.do == "duplicates" and len(items) > 1:
        for place in range(1, len(items), int(rule.details.get("step", 10))):
            items[place] = items[place - 1]
    elif rule.do == "missing_items":
        del items[:: int(rule.details.get("step", 10))]
    elif rule.do == "page_size":
        del items[int(rule.details["size"]) :]
    elif rule.do == "wrong_types" and items:
        items[0] = _with(items[0], {"listing_id": "not-a-number", "tags": 7, "price": [1]})
    elif rule.do == "null_fields":
        items = [_emptied(item) for item in items]
        single = None if single is None else _emptied(single)
    return ApiResult(items, count, single)


def spoil(rule: Rule, answer: ApiResult) -> bytes:
    """Return the answer's body, damaged as a whole if the rule says so."""
    body = _damage(rule, answer).body()
    if rule.do == "malformed_json":
        return body[: len(body) * 2 // 3]
    if rule.do == "no_results":
        return b'{"count":%d}' % answer.count
    if rule.do == "null_results":
        return b'{"count":%d,"results":null}' % answer.count
    if rule.do == "wrong_types" and answer.single is not None:
        return b'["not", "an", "object"]'
    return body


def _with(item: bytes, fields: dict[str, Any]) -> bytes:
    return msgspec.json.encode({**msgspec.json.decode(item), **fields})


def _emptied(item: bytes) -> bytes:
    fields = msgspec.json.decode(item)
    kept = {
        "listing_id",
        "shop_id",
        "transaction_id",
        "create_timestamp",
        "images",
        "shop",
        "state",
    }
    return msgspec.json.encode({k: v if k in kept else None for k, v in fields.items()})
