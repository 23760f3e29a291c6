"""One request and its answer on a libcurl handle: options, buffers, and errors in plain words.

Every handle is made here, for the API and for the CDN, so that both use the same proxies, trust
the same certificate authorities and name the same failure by the same words. Redirects are never
followed by libcurl: who may follow one checks its target first.

Without `SSL_CERT_FILE` the system's authorities are trusted: pycurl's wheels look for them at run
time in the usual places of Linux and macOS, so that certifi is not needed.
"""

import os
import re
from collections.abc import Mapping

import msgspec
import pycurl

from furnisync.http.headers import parse_headers
from furnisync.http.network import Network

__all__ = ["Exchange", "ExchangeLimits", "Failure"]

CONNECT_TIMEOUT_S = 15.0
BUFFER_BYTES = 128 * 1024
"""Most images come in one or two pieces then."""

_PROXY_HANDSHAKE = 97  # CURLE_PROXY, which pycurl does not name
_UNREACHABLE = {
    pycurl.E_COULDNT_RESOLVE_PROXY: "proxy not found",
    pycurl.E_COULDNT_RESOLVE_HOST: "host not found",
    pycurl.E_COULDNT_CONNECT: "no connection",
    pycurl.E_SSL_CONNECT_ERROR: "TLS failed",
    pycurl.E_PEER_FAILED_VERIFICATION: "certificate refused",
    pycurl.E_SSL_CACERT_BADFILE: "certificates to trust cannot be read",
    _PROXY_HANDSHAKE: "proxy failed",
}
_BROKEN = {
    pycurl.E_GOT_NOTHING: "connection closed without an answer",
    pycurl.E_RECV_ERROR: "connection broken",
    pycurl.E_SEND_ERROR: "connection broken",
}
_CONNECTING = ("Connection time", "Failed to connect", "Resolving timed out")


class ExchangeLimits(msgspec.Struct, frozen=True):
    """What one exchange may take, and who asks.

    Attributes:
        max_bytes: a longer body, as sent or as unpacked, is cut off.
        timeout_s: from the beginning to the last byte.
        user_agent: the header of that name.
        accept_encoding: how the body may be packed; whatever comes is unpacked.
    """

    max_bytes: int
    timeout_s: float
    user_agent: str
    accept_encoding: str = "identity"


class Failure(msgspec.Struct, frozen=True):
    """Why no whole answer came.

    Attributes:
        reason: in words that stay the same for the same cause.
        unreachable: there was no way to the server at all.
        overrun: the body was longer than allowed and was cut off.
    """

    reason: str
    unreachable: bool = False
    overrun: bool = False


class Exchange:
    """A handle with its buffers, used for one request after another.

    Attributes:
        curl: the handle, for the multi handle that drives it.
    """

    def __init__(
        self, network: Network, limits: ExchangeLimits, headers: Mapping[str, str] | None = None
    ) -> None:
        """Make a handle; `headers` go with every request of it, to the server only."""
        self._network = network
        self._limits = limits
        self._pieces: list[bytes] = []
        self._header_lines: list[bytes] = []
        self._size = 0
        self._overrun = False
        self.curl = pycurl.Curl()
        self._configure()
        self._trust()
        if headers:
            self.curl.setopt(pycurl.HTTPHEADER, [f"{name}: {headers[name]}" for name in headers])

    def _configure(self) -> None:
        limits, set_option = self._limits, self.curl.setopt
        connect_s = min(CONNECT_TIMEOUT_S, limits.timeout_s)
        set_option(pycurl.WRITEFUNCTION, self._receive)
        set_option(pycurl.HEADERFUNCTION, self._header_lines.append)
        set_option(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        set_option(pycurl.FOLLOWLOCATION, 0)
        # Not HTTP/2: a stall or reset costs one answer, not all that share a connection.
        set_option(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        set_option(pycurl.USERAGENT, limits.user_agent)
        set_option(pycurl.ACCEPT_ENCODING, limits.accept_encoding)
        set_option(pycurl.MAXFILESIZE_LARGE, limits.max_bytes)
        set_option(pycurl.NOSIGNAL, 1)  # we may be on a thread
        set_option(pycurl.TCP_KEEPALIVE, 1)
        set_option(pycurl.BUFFERSIZE, BUFFER_BYTES)
        set_option(pycurl.TIMEOUT_MS, round(limits.timeout_s * 1000))
        set_option(pycurl.CONNECTTIMEOUT_MS, round(connect_s * 1000))
        set_option(pycurl.NOPROXY, self._network.no_proxy)

    def _trust(self) -> None:
        """Trust the authorities that the environment names, of servers and of https proxies."""
        if self._network.ca_file:
            file = os.fsencode(self._network.ca_file)
            self.curl.setopt(pycurl.CAINFO, file)
            self.curl.setopt(pycurl.PROXY_CAINFO, file)
        if self._network.ca_dirs:
            folders = os.fsencode(self._network.ca_dirs)
            self.curl.setopt(pycurl.CAPATH, folders)
            self.curl.setopt(pycurl.PROXY_CAPATH, folders)

    def aim(self, url: str) -> None:
        """Make ready for a request."""
        self._pieces.clear()
        self._header_lines.clear()
        self._size = 0
        self._overrun = False
        self.curl.setopt(pycurl.URL, url)
        self.curl.setopt(pycurl.PROXY, self._network.proxy_for(url))  # "" is none at all

    def _receive(self, piece: bytes) -> int | None:
        """Keep a piece, unless it is one too many: also counts unpacked and unannounced bytes."""
        self._size += len(piece)
        if self._size > self._limits.max_bytes:
            self._overrun = True
            return 0  # fewer than were given: curl ends the transfer
        self._pieces.append(piece)
        return None

    @property
    def status(self) -> int:
        """The HTTP status that came; 0 where none did."""
        return int(self.curl.getinfo(pycurl.RESPONSE_CODE))

    @property
    def location(self) -> str | None:
        """The absolute target of a redirect; None where there is none."""
        target = self.curl.getinfo_raw(pycurl.REDIRECT_URL)
        return target.decode("latin-1") if target else None

    def headers(self) -> dict[str, str]:
        """The headers that came, names in lower case."""
        return parse_headers(self._header_lines)

    def take_body(self) -> bytes:
        """The body that came, maybe a part; the exchange lets go of it."""
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        return body

    def failure(self, error: int, message: str) -> Failure:
        """Translate libcurl's error number and message."""
        limits = self._limits
        if self._overrun or error == pycurl.E_FILESIZE_EXCEEDED:
            return Failure(f"larger than {limits.max_bytes:,} bytes", overrun=True)
        if error == pycurl.E_OPERATION_TIMEDOUT:
            if message.startswith(_CONNECTING):
                return Failure("connecting timed out", unreachable=True)
            stalled = "too slow" in message
            return Failure("stalled" if stalled else f"timed out after {limits.timeout_s:g} s")
        if error == pycurl.E_PARTIAL_FILE:
            length: int = self.curl.getinfo(pycurl.CONTENT_LENGTH_DOWNLOAD_T)
            of = f" of {length:,}" if length > 0 else ""
            return Failure(f"truncated: {self._size:,}{of} bytes")
        name = _UNREACHABLE.get(error) or _BROKEN.get(error) or f"curl error {error}"
        detail = re.sub(r" after \d+ ms", "", message)[:150]
        reason = f"{name}: {detail}" if detail else name
        return Failure(reason, unreachable=error in _UNREACHABLE)

    def close(self) -> None:
        """Free the handle."""
        self.curl.close()
