"""A CDN that misbehaves: one resource for each fault, over raw sockets, on a port of its own."""

import asyncio
import gzip
import io
import random
import ssl
import struct
import threading
import time
import zlib
from collections import Counter
from email.utils import formatdate

from PIL import Image


def noise(width=60, height=40, mode="RGB", seed=1):
    size = width * height * len(Image.new(mode, (1, 1)).getbands())
    return Image.frombytes(mode, (width, height), random.Random(seed).randbytes(size))


def encoded(kind, image=None, **options):
    out = io.BytesIO()
    (image or noise()).save(out, kind, **options)
    return out.getvalue()


JPEG = encoded("JPEG", quality=90)
PNG, WEBP, GIF = encoded("PNG"), encoded("WEBP"), encoded("GIF", noise(mode="P"))
HTML = b"<!DOCTYPE html><html><body>Something went wrong</body></html>"


def numbered(number: int) -> bytes:
    """A picture of its own for each number, big enough to be caught half-written."""
    return encoded("PNG", noise(300, 300, seed=number), compress_level=0)


class FaultyCdn:
    """Runs on a thread. `requests` holds (path, headers), `connections` how many were accepted."""

    def __init__(self, tls: ssl.SSLContext | None = None):
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.connections = 0
        self.seen: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0
        self.gate_size = 1
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._gate = asyncio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._started.wait(10)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, path: str) -> str:
        return f"{'https' if self._tls else 'http'}://{self.host}{path}"

    def asked(self) -> list[str]:
        return [path for path, _ in self.requests]

    def forget(self):
        self.requests.clear()
        self.seen.clear()
        self.connections = self.at_once = self.most_at_once = 0
        self.gate_size = 1
        self._loop.call_soon_threadsafe(self._gate.clear)

    def open_gate(self):
        self._loop.call_soon_threadsafe(self._gate.set)

    def close(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self):
        asyncio.set_event_loop(self._loop)
        start = asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        server = self._loop.run_until_complete(start)
        self.port = server.sockets[0].getsockname()[1]
        self._loop.call_soon(self._started.set)
        self._loop.run_forever()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()

    async def _serve(self, reader, writer):
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                path = head[0].split(" ")[1]
                headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
                self.requests.append((path, headers))
                self.seen[path] += 1
                if not await self._answer(path, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def _answer(self, path, writer) -> bool:
        """Answer; False where the connection ends."""
        kind, _, rest = path[1:].partition("/")
        plain = PLAIN.get(kind)
        if plain:
            status, headers, body = plain
            writer.write(response(status, headers, body))
            await writer.drain()
            return True
        return await getattr(self, "_" + kind.replace("-", "_"))(writer, rest)

    async def _numbered(self, writer, rest):
        writer.write(response(200, {}, numbered(int(rest))))
        await writer.drain()
        return True

    async def _once(self, writer, rest):
        """`/once/{status}/{retry-after}/{name}`: refused the first time, then fine."""
        status, after, _ = rest.split("/")
        if self.seen[f"/once/{rest}"] > 1:
            writer.write(response(200, {}, JPEG))
        else:
            if after == "date":
                after = formatdate(time.time() + 100, usegmt=True)
            writer.write(response(int(status), {"Retry-After": after} if after else {}, HTML))
        return True

    async def _short(self, writer, _):
        writer.write(response(200, {"Content-Length": str(len(JPEG))}, JPEG[:1000]))
        return False

    async def _reset(self, writer, when):
        if when == "mid":
            writer.write(response(200, {"Content-Length": str(len(JPEG))}, JPEG[:1000]))
            await writer.drain()
        elif when == "close":
            return False
        sock = writer.get_extra_info("socket")
        sock.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER of 0: a reset
        writer.transport.abort()
        return False

    async def _unsized(self, writer, part):
        body = JPEG[: len(JPEG) // 2] if part == "half" else JPEG
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body)
        return False

    async def _chunked(self, writer, part):
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for at in range(0, len(JPEG), 1000):
            piece = JPEG[at : at + 1000]
            writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            if part == "broken":
                return False
        writer.write(b"0\r\n\r\n")
        return True

    async def _endless(self, writer, status):
        writer.write(f"HTTP/1.1 {status or 200} X\r\n\r\n".encode())
        while True:
            writer.write(JPEG)
            await writer.drain()

    async def _stall(self, writer, _):
        writer.write(response(200, {"Content-Length": str(len(JPEG))}, JPEG[:100]))
        await asyncio.Event().wait()

    async def _hang(self, writer, _):
        await asyncio.Event().wait()

    async def _gated(self, writer, _):
        """Answers once `gate_size` requests wait, or the gate was opened."""
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        if self.at_once >= self.gate_size:
            self._gate.set()
        await self._gate.wait()
        self.at_once -= 1
        writer.write(response(200, {}, JPEG))
        return True

    async def _hop(self, writer, left):
        target = f"/hop/{int(left) - 1}" if int(left) else "/ok"
        writer.write(response(302, {"Location": target}, HTML))
        return True

    async def _to(self, writer, target):
        """Sends to whatever stands behind `/to/`."""
        writer.write(response(301, {"Location": target}, b""))
        return True


def response(status: int, headers: dict[str, str], body: bytes) -> bytes:
    headers = {"Content-Length": str(len(body)), "Content-Type": "image/jpeg", **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Said\r\n{lines}\r\n".encode("latin-1") + body


def with_random_data(jpeg: bytes, seed: int = 3) -> bytes:
    scan = jpeg.index(b"\xff\xda")
    return jpeg[: scan + 14] + random.Random(seed).randbytes(3000) + b"\xff\xd9"


def png_of_size(width: int, height: int) -> bytes:
    def chunk(kind, data):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 100)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


PLAIN: dict[str, tuple[int, dict[str, str], bytes]] = {
    "ok": (200, {}, JPEG),
    "png": (200, {}, PNG),
    "webp": (200, {}, WEBP),
    "gif": (200, {}, GIF),
    "html": (200, {}, HTML),
    "json": (200, {}, b'{"error": "not found"}'),
    "text": (200, {}, b"Not here"),
    "empty": (200, {}, b""),
    "half": (200, {}, JPEG[: len(JPEG) // 2]),
    "random": (200, {}, with_random_data(JPEG)),
    "bomb": (200, {}, png_of_size(60_000, 60_000)),
    "gzip": (200, {"Content-Encoding": "gzip"}, gzip.compress(JPEG)),
    "gzip-bomb": (200, {"Content-Encoding": "gzip"}, gzip.compress(b"\0" * 20_000_000)),
    "gzip-broken": (200, {"Content-Encoding": "gzip"}, JPEG),
    "announced-huge": (200, {"Content-Length": "99999999999"}, JPEG),
    "204": (204, {"X-No": "body"}, b""),
    "206": (206, {}, JPEG),
    "400": (400, {}, HTML),
    "401": (401, {}, b"<p>Who are <b>you</b>?</p>"),
    "403": (403, {}, b"Request blocked.\nGo away."),
    "404": (404, {}, HTML),
    "410": (410, {}, HTML),
    "500": (500, {}, HTML),
    "502": (502, {}, HTML),
    "nowhere": (302, {}, HTML),
}
