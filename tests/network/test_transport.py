"""The API's transport over real HTTP: bodies, limits, connections, the end."""

import asyncio
import gzip
import socket
import struct
import zlib

import msgspec
import pytest
from network_world import KEY, LIMITS
from support.local_network import PNG, Origin, send
from support.processes import until

from furnisync.clock import SystemClock
from furnisync.config import ApiKey, ApiSettings
from furnisync.errors import ApiUnavailable, NoResponse
from furnisync.etsy.client import EtsyClient
from furnisync.etsy.sender import ApiCall
from furnisync.http.network import DIRECT
from furnisync.http.transport import CurlTransport, Request

BOMB = gzip.compress(bytes(10_000_000))
TEXT = b'{"count": 1, "results": []}' * 1000


def ask(origin, work, connections=4, **limits):
    """Run `work(fetch)` on a loop; `fetch(path)` asks the origin."""

    async def run():
        transport = CurlTransport(DIRECT, connections, msgspec.structs.replace(LIMITS, **limits))
        try:
            return await work(lambda path: transport.fetch(Request(origin.url(path), KEY)))
        finally:
            await transport.close()

    return asyncio.run(run())


def reset(handler):
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    socket.close(handler.connection.detach())  # now, and without a goodbye


def truncated(handler):
    send(handler, 429, b"x" * 10, Content_Length="1000", Retry_After="7")
    handler.close_connection = True


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    handler.close_connection = True
    while True:
        handler.wfile.write(bytes(65_536))


def packed(body, encoding="gzip"):
    return lambda handler: send(handler, body=body, Content_Encoding=encoding)


@pytest.fixture
def origin():
    def hang(handler):
        origin.let_go.wait(60)

    def stall(handler):
        send(handler, 200, b"x", Content_Length="1000", X_Remaining_Today="5")
        handler.wfile.flush()
        hang(handler)

    answers = {
        "/hang": hang,
        "/stall": stall,
        "/reset": reset,
        "/close": lambda handler: setattr(handler, "close_connection", True),
        "/truncated": truncated,
        "/endless": endless,
        "/huge": lambda handler: send(handler, body=b"x" * 200_000),
        "/bomb": packed(BOMB),
        "/gzip": packed(gzip.compress(TEXT)),
        "/deflate": packed(zlib.compress(TEXT), "deflate"),
        "/broken": packed(gzip.compress(TEXT)[:40] + b"\0\0\0"),
        "/elsewhere": lambda handler: send(handler, 302, Location="/picture.png"),
        "/garbage": lambda handler: handler.wfile.write(b"hello\r\n\r\n"),
        "/500": lambda handler: send(handler, 500, b"oops", Retry_After="3", X_a="\xe9"),
    }
    with Origin(answers) as origin:
        yield origin


def test_a_response_is_status_headers_and_body(origin):
    response = ask(origin, lambda fetch: fetch("/picture.png"))
    assert (response.status, response.body) == (200, PNG)
    assert response.headers["content-type"] == "image/png"
    response = ask(origin, lambda fetch: fetch("/500"))
    assert (response.status, response.body) == (500, b"oops")
    assert (response.headers["retry-after"], response.headers["x-a"]) == ("3", "\xe9")
    path, headers = origin.requests[0]
    assert path == "/picture.png"
    assert headers == {
        "host": origin.at,
        "user-agent": "test",
        "accept": "*/*",
        "accept-encoding": "identity",
        **KEY,
    }


@pytest.mark.parametrize("path", ["/gzip", "/deflate"])
def test_packed_bodies_are_unpacked(origin, path):
    assert ask(origin, lambda fetch: fetch(path), accept_encoding="gzip").body == TEXT
    assert origin.requests[0][1]["accept-encoding"] == "gzip"


@pytest.mark.parametrize(
    ("path", "reason", "status"),
    [
        ("/huge", "larger than 100,000 bytes", 200),
        ("/endless", "larger than 100,000 bytes", 200),
        ("/bomb", "larger than 100,000 bytes", 200),
        ("/broken", "curl error 61: ", 200),
        ("/truncated", "truncated: 10 of 1,000 bytes", 429),
        ("/stall", "timed out after 0.5 s", 200),
        ("/hang", "timed out after 0.5 s", 0),
        ("/close", "connection closed without an answer: ", 0),
        ("/reset", "connection broken: ", 0),
        ("/garbage", "curl error 1: ", 0),
    ],
)
def test_what_is_no_whole_answer_is_named(origin, path, reason, status):
    timeout_s = 0.5 if "timed out" in reason else 20.0
    with pytest.raises(NoResponse) as told:
        ask(origin, lambda fetch: fetch(path), max_bytes=100_000, timeout_s=timeout_s)
    words = str(told.value)
    assert words.startswith(reason) if reason.endswith(": ") else words == reason
    assert told.value.status == status
    if path == "/truncated":
        assert told.value.headers["retry-after"] == "7"


def test_no_server_and_no_such_host(fetch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        assert fetch(f"http://127.0.0.1:{taken.getsockname()[1]}/").startswith("no connection: ")
    assert fetch("http://api.invalid/").startswith("host not found: ")


def test_a_redirect_is_never_followed(origin):
    assert ask(origin, lambda fetch: fetch("/elsewhere")).status == 302
    assert [path for path, _ in origin.requests] == ["/elsewhere"]


def test_connections_are_kept_and_bounded(origin):
    async def many(fetch):
        await fetch("/a")
        await fetch("/b")
        assert origin.connections == 1
        await asyncio.gather(*(fetch(f"/{number}") for number in range(40)))

    ask(origin, many, connections=3)
    assert len(origin.requests) == 42
    assert origin.most <= 3


def test_waiting_for_a_connection_counts_as_time(origin):
    async def several(fetch):
        return await asyncio.gather(*(fetch("/hang") for _ in range(5)), return_exceptions=True)

    ended = ask(origin, several, connections=1, timeout_s=0.5)
    assert [type(one) for one in ended] == [NoResponse] * 5
    assert {str(one) for one in ended} <= {"timed out after 0.5 s", "connecting timed out"}
    assert len(origin.requests) <= 2, "on a busy machine one may begin as the first one ends"


def test_a_cancelled_request_leaves_nothing_to_the_next(origin):
    async def cancelled(fetch):
        for path in ("/hang", "/stall", "/hang"):
            task = asyncio.create_task(fetch(path))
            await asyncio.to_thread(until, lambda: origin.requests)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            origin.requests.clear()
        return await asyncio.gather(*(fetch(f"/{number}") for number in range(8)))

    assert {response.body for response in ask(origin, cancelled, connections=2)} == {PNG}


def test_closing_ends_what_is_under_way(origin):
    async def run():
        transport = CurlTransport(DIRECT, 2, LIMITS)
        task = asyncio.create_task(transport.fetch(Request(origin.url("/hang"), {})))
        await asyncio.to_thread(until, lambda: origin.requests)
        await transport.close()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


class Ledger:
    def __init__(self):
        self.settled = []

    async def acquire(self, purpose):
        pass

    def settle(self, purpose, answer):
        self.settled.append(answer)

    def note_clock(self, state):
        pass

    def note_outages(self, outages):
        pass


@pytest.mark.parametrize(
    ("path", "told"), [("/hang", None), ("/stall", (200, 5)), ("/picture.png", (200, None))]
)
def test_the_client_over_real_http(origin, path, told):
    """Its time limit, and the ledger learns what came of an answer."""
    ledger = Ledger()

    async def run():
        settings = ApiSettings(attempts=1)
        limits = msgspec.structs.replace(LIMITS, timeout_s=0.5)
        transport = CurlTransport(DIRECT, 2, limits)
        key = ApiKey("keystring", "secret")
        async with EtsyClient(
            origin.url(""), key, ledger, settings, SystemClock(), transport
        ) as client:
            return await client.sender.send(ApiCall(path[1:], "probe", {"limit": 5}))

    picture = path == "/picture.png"
    words = "the answer is not JSON" if picture else "no answer .timed out after 0.5 s"
    with pytest.raises(ApiUnavailable, match=f"^{path[1:]}: {words}"):
        asyncio.run(run())
    (asked, headers), (answer,) = *origin.requests, ledger.settled
    assert asked == f"{path}?limit=5"
    assert headers["x-api-key"] == "keystring:secret"
    assert headers["accept"] == "application/json"
    assert (answer and (answer.status, answer.remaining_today)) == told
