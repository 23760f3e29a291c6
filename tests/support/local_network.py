"""Servers on this machine, real ones: an origin, with TLS or without, and proxies before it."""

from __future__ import annotations

import io
import selectors
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (3, 2), "red").save(out, "PNG")
    return out.getvalue()


PNG = _png()


def make_certificate(folder: Path, *names: str) -> tuple[Path, Path]:
    """A certificate that is its own authority, and its key; `names` as `DNS:a` or `IP:1.2.3.4`."""
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip("no openssl to make a certificate with")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    curve = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1"
    asked = f"req -x509 {curve} -nodes -keyout {key} -out {certificate} -days 2"
    alternative = ["-subj", "/CN=local", "-addext", f"subjectAltName={','.join(names)}"]
    subprocess.run([openssl, *asked.split(), *alternative], check=True, capture_output=True)
    return certificate, key


def hashed_folder(certificate: Path, folder: Path) -> Path:
    """A folder of certificates as `openssl rehash` makes it."""
    asked = ["openssl", "x509", "-hash", "-noout", "-in", str(certificate)]
    name = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    folder.mkdir()
    (folder / f"{name}.0").write_bytes(certificate.read_bytes())
    return folder


def server_tls(certificate: Path, key: Path) -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    return tls


class _Threads(socketserver.ThreadingMixIn):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        """Clients go away on purpose here."""


class Running:
    """A server on a thread of its own; a context manager."""

    def __init__(self, server: socketserver.TCPServer, scheme: str, host: str) -> None:
        self._server = server
        self.port = server.server_address[1]
        self.scheme = scheme
        self.at = f"{host}:{self.port}"
        self._thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


class Origin(Running):
    """A web server; `answers` says for a path what is done, `otherwise` for all others.

    Attributes:
        requests: (path, headers) of each, names of headers in lower case.
        connections: how many were made; `most` at one time.
        let_go: ends those that hang.
    """

    def __init__(
        self,
        answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] | None = None,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        otherwise: Callable[[BaseHTTPRequestHandler], None] | None = None,
    ) -> None:
        origin = self
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.connections = self.open = self.most = 0
        self.let_go = threading.Event()
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 60

            def setup(self):
                if tls is not None:
                    self.request = tls.wrap_socket(self.request, server_side=True)
                super().setup()
                with lock:
                    origin.connections += 1
                    origin.open += 1
                    origin.most = max(origin.most, origin.open)

            def finish(self):
                with lock:
                    origin.open -= 1
                super().finish()

            def do_GET(self):
                headers = {name.lower(): value for name, value in self.headers.items()}
                origin.requests.append((self.path, headers))
                (answers or {}).get(self.path.split("?")[0], otherwise or whole)(self)

            def do_POST(self):
                self.rfile.read(int(self.headers.get("content-length", 0)))
                self.do_GET()

            def log_message(self, *_):
                pass

        class Server(_Threads, ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

            def server_bind(self):
                socketserver.TCPServer.server_bind(self)  # without asking DNS for our name

        shown = f"[{host}]" if ":" in host else host
        super().__init__(Server((host, 0), Handler), "https" if tls else "http", shown)

    def url(self, path: str = "/picture.png", host: str = "") -> str:
        return f"{self.scheme}://{f'{host}:{self.port}' if host else self.at}{path}"

    def close(self):
        self.let_go.set()
        super().close()


def send(handler, status=200, body=b"", **headers):
    handler.send_response(status)
    for name, value in {"Content_Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def whole(handler):
    send(handler, body=PNG, Content_Type="image/png")


def forward(upstream: str, **replaced: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """Ask `upstream` the same; in its body each name of `replaced` becomes the value."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def answer(handler):
        request = urllib.request.Request(f"http://{upstream}{handler.path}")
        if key := handler.headers.get("x-api-key"):
            request.add_header("x-api-key", key)
        try:
            found = opener.open(request, timeout=30)
        except urllib.error.HTTPError as error:
            found = error
        with found:
            body = found.read()
        for old, new in replaced.items():
            body = body.replace(old.encode(), new.encode())
        skipped = ("content-length", "connection", "date", "server", "transfer-encoding")
        kept = {name: value for name, value in found.headers.items() if name.lower() not in skipped}
        send(handler, found.status, body, **kept)

    return answer


class Proxy(Running):
    """A proxy that speaks HTTP (CONNECT and plain) and SOCKS5 on one port, without a password.

    Every name leads to this machine, so that an answer for a name that DNS does not know came
    through it.

    Attributes:
        asked: what to reach, as it was named: "host:port".
        heads: the HTTP heads that it could read.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, refuse: bytes = b"") -> None:
        proxy = self
        self.asked: list[str] = []
        self.heads: list[bytes] = []

        class Handler(socketserver.BaseRequestHandler):
            def setup(self):
                if tls is not None:
                    self.request = tls.wrap_socket(self.request, server_side=True)

            def handle(self):
                first = self.request.recv(1)
                if first == b"\x05" and refuse:
                    self.request.sendall(refuse)
                elif first == b"\x05":
                    proxy._socks(self.request)
                elif first:
                    proxy._http(self.request, first, refuse)

        class Server(_Threads, socketserver.TCPServer):
            allow_reuse_address = True

        super().__init__(Server(("127.0.0.1", 0), Handler), "https" if tls else "http", "127.0.0.1")

    def url(self, scheme: str = "") -> str:
        return f"{scheme or self.scheme}://{self.at}"

    def _reach(self, host: str, port: int) -> socket.socket:
        self.asked.append(f"{host}:{port}")
        return socket.create_connection(("::1" if ":" in host else "127.0.0.1", port), 10)

    def _http(self, client: socket.socket, first: bytes, refuse: bytes) -> None:
        head = first
        while b"\r\n\r\n" not in head:
            head += client.recv(65_536)
        self.heads.append(head)
        if refuse:
            client.sendall(b"HTTP/1.1 " + refuse + b"\r\nContent-Length: 0\r\n\r\n")
            return
        method, target, _ = head.split(b" ", 2)
        place = target if method == b"CONNECT" else target.split(b"/", 3)[2]
        host, _, port = place.decode().rpartition(":")
        with self._reach(host.strip("[]"), int(port)) as server:
            if method == b"CONNECT":
                client.sendall(b"HTTP/1.1 200 Connected\r\nX-Remaining-Today: 1\r\n\r\n")
            else:
                server.sendall(head)
            _pipe(client, server)

    def _socks(self, client: socket.socket) -> None:
        client.recv(client.recv(1)[0])  # methods; none of them needed
        client.sendall(b"\x05\x00")
        kind = client.recv(4)[3]
        if kind == 3:
            host = client.recv(client.recv(1)[0]).decode()
        else:
            family, size = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
            host = socket.inet_ntop(family, client.recv(size))
        with self._reach(host, int.from_bytes(client.recv(2))) as server:
            client.sendall(b"\x05\x00\x00\x01" + bytes(6))
            _pipe(client, server)


def _pipe(one: socket.socket, other: socket.socket) -> None:
    if isinstance(one, ssl.SSLSocket):  # what it has decrypted already no selector shows
        threading.Thread(target=_copy, args=(one, other), daemon=True).start()
        _copy(other, one)
        return
    with selectors.DefaultSelector() as waiting:
        waiting.register(one, selectors.EVENT_READ, other)
        waiting.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in waiting.select():
                data = key.fileobj.recv(65_536)
                if not data:
                    return
                key.data.sendall(data)


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65_536):
            target.sendall(data)
    except OSError:
        pass  # one side went away
