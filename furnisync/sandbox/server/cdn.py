"""The image CDN: a bare HTTP/1.1 server.

It uses an asyncio protocol, not a web framework, for two reasons: it must be faster
than the downloader that it measures, and faults must control the bytes on the wire.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from furnisync.sandbox.pictures.pictures import SIZES
from furnisync.sandbox.server.cdn_faults import ImageRequest, Reply, faulty_reply, misbehave
from furnisync.sandbox.server.fault_actions import break_off, hold
from furnisync.sandbox.world.objects import image_path

if TYPE_CHECKING:
    from furnisync.sandbox.clock import Clock
    from furnisync.sandbox.pictures.pictures import Pictures
    from furnisync.sandbox.server.faults import Faults, Rule
    from furnisync.sandbox.server.request_log import RequestLog
    from furnisync.sandbox.world.world import World

__all__ = ["Cdn", "CdnConnection", "image_facts"]

_PATH = re.compile(
    r"/(?P<shop_id>\d{1,18})/r/il/(?P<hex>[0-9a-f]{6})/(?P<image_id>\d{1,18})"
    r"/il_(?P<size>[0-9a-zA-Z]+)\.(?P=image_id)_(?P<suffix>[a-z0-9]+)\.jpg"
)
_HEAD_LIMIT = 16_384


def image_facts(path: str) -> dict[str, str] | None:
    """Return the parts of an image's path, or None for another path."""
    match = _PATH.fullmatch(path)
    return match.groupdict() if match else None


@dataclass(slots=True)
class Cdn:
    """The state that all connections share."""

    world: World
    pictures: Pictures
    clock: Clock
    faults: Faults
    asked: RequestLog
    latency_s: float

    def find(self, path: str) -> int | None:
        """Return the id of the image at `path`, only if the URL is exactly right."""
        facts = image_facts(path)
        if facts is None or facts["size"] not in SIZES:
            return None
        image_id = int(facts["image_id"])
        owner = self.world.image_owner(image_id)
        if owner is None or owner[1] not in owner[0].slots:
            return None
        right = image_path(owner[0].shop.shop_id, image_id, facts["size"])
        return image_id if right == path else None

    def rule_for(self, path: str) -> Rule | None:
        """Return the fault rule that applies to this request."""
        if not self.faults.any("cdn"):
            return None
        return self.faults.rule_for("cdn", "image", path, image_facts(path) or {})

    def ready(self, asked: ImageRequest) -> bool:
        """Whether the image can be served at once."""
        return asked.image_id is None or self.pictures.ready(asked.image_id, asked.size)

    async def draw(self, asked: ImageRequest) -> None:
        """Make the drawing of an image without blocking other connections."""
        if asked.image_id is not None:
            await asyncio.to_thread(self.pictures.parts, asked.image_id, asked.size)


class CdnConnection(asyncio.Protocol):
    """One client's connection: requests one after the other."""

    def __init__(self, cdn: Cdn) -> None:
        self._cdn = cdn
        self._transport: asyncio.Transport
        self._buffer = b""
        self._busy: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("the CDN speaks over streams")
        self._transport = transport
        self._cdn.asked.cdn_connection(1)

    def connection_lost(self, _error: Exception | None) -> None:
        """Stop the work for this client."""
        self._cdn.asked.cdn_connection(-1)
        if self._busy:
            self._busy.cancel()

    def data_received(self, data: bytes) -> None:
        """Receive bytes; each complete head is a request."""
        self._buffer += data
        self._serve()

    def _serve(self) -> None:
        while self._busy is None and not self._transport.is_closing():
            head, blank, rest = self._buffer.partition(b"\r\n\r\n")
            if not blank:
                if len(self._buffer) > _HEAD_LIMIT:
                    break_off(self._transport)
                return
            self._buffer = rest
            self._request(head)

    def _request(self, head: bytes) -> None:
        line, _, fields = head.partition(b"\r\n")
        pieces = line.decode("latin-1").split(" ")
        target = pieces[1] if len(pieces) == 3 else ""
        path = urlsplit(target).path if "?" in target or "#" in target else target
        lowered = (b"\r\n" + fields.lower()).replace(b" ", b"")
        has_key = b"\r\nx-api-key:" in lowered
        closes = b"\r\nconnection:close" in lowered
        rule = self._cdn.rule_for(path)
        image_id = self._cdn.find(path)
        size = _size(path) if image_id is not None else ""
        asked = ImageRequest(path, image_id, size, has_key=has_key, closes=closes)
        if rule is None and self._cdn.ready(asked) and not self._cdn.latency_s:
            self._send(asked, self._plain(asked))
        else:
            self._busy = asyncio.ensure_future(self._slowly(asked, rule))

    async def _slowly(self, asked: ImageRequest, rule: Rule | None) -> None:
        await hold(self._transport, self._cdn.latency_s)
        if not self._cdn.ready(asked):
            await self._cdn.draw(asked)
        reply = self._plain(asked)
        if rule is None:
            self._send(asked, reply)
        else:
            reply = faulty_reply(rule, reply, self._cdn.pictures, asked)
            self._note(asked, rule.do)
            if not await misbehave(rule, self._transport, reply, self._cdn.clock.http_date()):
                self._write(asked, reply)
        self._busy = None
        if self._buffer:
            self._serve()

    def _plain(self, asked: ImageRequest) -> Reply:
        if asked.image_id is None:
            return Reply(404, "text/html", (b"<html>404 Not Found</html>",))
        return Reply(200, "image/jpeg", self._cdn.pictures.parts(asked.image_id, asked.size))

    def _send(self, asked: ImageRequest, reply: Reply) -> None:
        self._note(asked, str(reply.status))
        self._write(asked, reply)

    def _write(self, asked: ImageRequest, reply: Reply) -> None:
        head = reply.head(self._cdn.clock.http_date(), closes=asked.closes)
        self._transport.writelines((head, *reply.pieces))
        if asked.closes:
            self._transport.close()

    def _note(self, asked: ImageRequest, status: str) -> None:
        self._cdn.asked.cdn(self._cdn.clock.now(), asked.path, status, has_key=asked.has_key)


def _size(path: str) -> str:
    return path.rpartition("/il_")[2].partition(".")[0]
