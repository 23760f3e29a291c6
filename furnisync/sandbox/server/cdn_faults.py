"""How faults change an answer of the CDN."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from furnisync.sandbox.prng import mix
from furnisync.sandbox.server.fault_actions import break_off, hold

if TYPE_CHECKING:
    from furnisync.sandbox.pictures.pictures import Pictures
    from furnisync.sandbox.server.faults import Rule

__all__ = ["WHOLE_BODIES", "ImageRequest", "Reply", "faulty_body", "faulty_reply", "misbehave"]

# Fault actions with a complete body, so that the truth can include its digest.
WHOLE_BODIES = {"png", "webp", "gif", "garbage", "html_200", "empty", "cut_jpeg", "slow"}

_PIXEL = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00\x90wS\xde"
    b"\x00\x00\x00\x0cIDATx\xdac\xf8\xff\xff?\x00\x05\xfe\x02\xfe3\x12\x95\x14\x00\x00\x00\x00IEND\xaeB`\x82"
)
_TINY_HTML = b"<html><head><title>Error</title></head><body>Sorry, try again.</body></html>"
_HANG_S = 3600.0


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """One request; `image_id` is None if the URL is not that of an image."""

    path: str
    image_id: int | None
    size: str
    has_key: bool = False
    closes: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """A response; its body is a list of chunks."""

    status: int
    content_type: str
    pieces: tuple[bytes, ...]
    headers: dict[str, str] = field(default_factory=dict)
    said_length: int | None = None

    def head(self, date: str, *, closes: bool = False) -> bytes:
        """Return the status line and the headers; `date` is the time of the answer."""
        length = sum(map(len, self.pieces)) if self.said_length is None else self.said_length
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            f"date: {date}",
            f"content-type: {self.content_type}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
            *([] if length < 0 else [f"content-length: {length}"]),
            "connection: close" if closes else "connection: keep-alive",
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def faulty_body(rule: Rule, whole: bytes, pictures: Pictures, asked: ImageRequest) -> bytes:
    """Return the body that a rule sends instead of the image."""
    seed = asked.image_id or 0
    if rule.do in ("png", "webp", "gif") and asked.image_id is not None:
        return pictures.other(asked.image_id, asked.size, rule.do)
    if rule.do == "garbage":
        step = mix(seed, 1) % 251 + 1
        return bytes((i * step + (i >> 7) * 31 + seed) & 255 for i in range(8_000))
    if rule.do == "cut_jpeg":
        return whole[: len(whole) * 2 // 3]
    if rule.do == "same_picture":
        return pictures.other(1, asked.size, "png")
    if rule.do == "tiny":
        return _PIXEL
    return {"empty": b"", "html_200": _TINY_HTML}.get(rule.do, whole)


def faulty_reply(rule: Rule, reply: Reply, pictures: Pictures, asked: ImageRequest) -> Reply:
    """Return the reply that is sent instead of `reply`."""
    if rule.do.isdigit():
        headers = {}
        if "retry_after" in rule.details:
            headers["retry-after"] = str(rule.details["retry_after"])
        return Reply(int(rule.do), "text/html", (_TINY_HTML,), headers)
    if rule.do == "redirect":
        to = str(rule.details.get("to", "http://127.0.0.2:9/elsewhere.jpg"))
        to = asked.path if to == "self" else to
        return Reply(int(rule.details.get("status", 302)), "text/html", (b"",), {"location": to})
    body = faulty_body(rule, b"".join(reply.pieces), pictures, asked)
    kind = "text/html" if rule.do == "html_200" else "image/jpeg"
    return Reply(200 if asked.image_id is not None else reply.status, kind, (body,))


async def misbehave(rule: Rule, transport: asyncio.Transport, reply: Reply, date: str) -> bool:
    """Apply a rule to the connection; return whether the answer is finished."""
    body = b"".join(reply.pieces)
    if rule.do == "slow":
        await hold(transport, float(rule.details.get("seconds", 1.0)))
        return False
    if rule.do == "endless":
        await _pour(transport, body, date)
    elif rule.do in ("truncated", "reset_mid_body"):
        transport.write(reply.head(date) + body[: len(body) // 2])
        if rule.do == "truncated":
            transport.close()
            return True
        await asyncio.sleep(0.02)  # let the first half arrive
    elif rule.do == "hang":
        await hold(transport, float(rule.details.get("seconds", _HANG_S)))
    elif rule.do != "reset":
        return False
    break_off(transport)
    return True


async def _pour(transport: asyncio.Transport, body: bytes, date: str) -> None:
    endless = Reply(200, "image/jpeg", (), said_length=-1)
    transport.write(endless.head(date, closes=True))
    while not transport.is_closing():
        if transport.get_write_buffer_size() < 1_000_000:
            transport.write(body)
        await asyncio.sleep(0.001)
