"""The seam to libcurl: one handle for each transfer at a time, one loop that drives them all.

`perform` with `select`, and not `socket_action`: at our few connections it takes 5 us an image less
(no callbacks for each socket) and there is no table of sockets to keep right. Its limit of 1,024
descriptors is far off; past it a wait would end by `LONGEST_WAIT_S`, so that all goes on, slower.
HTTP/1.1 with connections kept alive: a stall or reset costs one image, not all that share an HTTP/2
connection.

Certificates are verified with the system's bundle: since 7.45.4 pycurl's wheels look for it at run
time in the usual places of Linux and macOS, so that certifi is not needed. A proxy named by the
environment (`https_proxy`, `no_proxy`) is used, as curl always does.
"""

import time
from email.utils import parsedate_to_datetime

import msgspec
import pycurl

from furnisync.download.job import DownloadLimits, ImageJob

__all__ = ["Answer", "CurlLoop", "Transfer"]

CONNECT_TIMEOUT_S = 15.0
STALL_S = 20
STALL_BYTES_PER_S = 100
"""Slower than this for `STALL_S` is a stall."""
LONGEST_WAIT_S = 0.25
"""One wait takes this at most, should a descriptor be past what `select` can watch."""
BLIND_WAIT_S = 0.005
"""Between two looks where curl has no socket to wait for."""
BUFFER_BYTES = 128 * 1024
"""Most images come in one or two pieces then."""


class Answer(msgspec.Struct, frozen=True):
    """What a transfer ended with.

    Attributes:
        status: HTTP status; 0 where none came.
        body: what was received, maybe a part.
        error: curl's number; 0 for none.
        message: curl's words.
        overrun: longer than the limit and cut off.
        expected_bytes: as announced; None where it was not.
        retry_after_s: seconds, also where a date was sent; None where neither.
        location: absolute target of a redirect; None where there is none.
    """

    status: int
    body: bytes
    error: int
    message: str
    overrun: bool
    expected_bytes: int | None
    retry_after_s: float | None
    location: str | None


def asked_pause_s(headers: list[bytes]) -> float | None:
    """What `retry-after` asks us to wait, in seconds; None where it is absent, past or no time.

    A date is held against the server's own `date`, lest a clock that is wrong, theirs or ours,
    makes a pause of hours.
    """
    values = {
        name.strip().lower(): value.strip().decode("latin-1")
        for name, _, value in (line.partition(b":") for line in headers)
    }
    asked = values.get(b"retry-after", "")
    if asked.isascii() and asked.isdigit():
        return float(asked) or None
    try:
        until = parsedate_to_datetime(asked).timestamp()
        sent = values.get(b"date")
        now = parsedate_to_datetime(sent).timestamp() if sent else time.time()
    except (ValueError, OverflowError):
        return None
    return until - now if until > now else None


class Transfer:
    """One easy handle with its buffer, used for one image after another.

    Attributes:
        curl: the handle.
        job: what it fetches now.
        redirects: how often it was sent elsewhere for this job.
    """

    job: ImageJob
    redirects: int

    def __init__(self, limits: DownloadLimits) -> None:
        self._max_bytes = limits.max_bytes
        self._pieces: list[bytes] = []
        self._headers: list[bytes] = []
        self._size = 0
        self._overrun = False
        self.curl = pycurl.Curl()
        set_option = self.curl.setopt
        set_option(pycurl.WRITEFUNCTION, self._receive)
        # Read where an answer was a refusal only; pycurl before 7.49 cannot be asked for them.
        set_option(pycurl.HEADERFUNCTION, self._headers.append)
        set_option(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        set_option(pycurl.FOLLOWLOCATION, 0)
        set_option(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        set_option(pycurl.USERAGENT, limits.user_agent)
        # Asks for plain bytes, and undoes an encoding that comes nonetheless.
        set_option(pycurl.ACCEPT_ENCODING, "identity")
        set_option(pycurl.MAXFILESIZE_LARGE, limits.max_bytes)
        set_option(pycurl.NOSIGNAL, 1)  # we are on a thread
        set_option(pycurl.TCP_KEEPALIVE, 1)
        set_option(pycurl.BUFFERSIZE, BUFFER_BYTES)
        set_option(pycurl.TIMEOUT_MS, round(limits.timeout_s * 1000))
        set_option(pycurl.CONNECTTIMEOUT_MS, round(min(CONNECT_TIMEOUT_S, limits.timeout_s) * 1000))
        set_option(pycurl.LOW_SPEED_LIMIT, STALL_BYTES_PER_S)
        set_option(pycurl.LOW_SPEED_TIME, STALL_S)

    def take(self, job: ImageJob) -> None:
        """Make ready for a job; the caller has checked its url."""
        self.job = job
        self.redirects = 0
        self._aim(job.url)

    def follow(self, url: str) -> None:
        """Make ready for where the job was sent; the caller has checked it."""
        self.redirects += 1
        self._aim(url)

    def _aim(self, url: str) -> None:
        self._pieces.clear()
        self._headers.clear()
        self._size = 0
        self._overrun = False
        self.curl.setopt(pycurl.URL, url)

    def _receive(self, piece: bytes) -> int | None:
        """Keep a piece, unless it is one too many: also counts decoded and unannounced bytes."""
        self._size += len(piece)
        if self._size > self._max_bytes:
            self._overrun = True
            return 0  # fewer than were given: curl ends the transfer
        self._pieces.append(piece)
        return None

    def answer(self, error: int, message: str) -> Answer:
        """Sum up a transfer that the loop has finished, and let go of its body."""
        status: int = self.curl.getinfo(pycurl.RESPONSE_CODE)
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        expected = retry_after = location = None
        if error or status != 200:
            length: int = self.curl.getinfo(pycurl.CONTENT_LENGTH_DOWNLOAD_T)
            expected = length if length >= 0 else None
            retry_after = asked_pause_s(self._headers)
            target = self.curl.getinfo_raw(pycurl.REDIRECT_URL)
            location = target.decode("latin-1") if target else None
        return Answer(
            status=status,
            body=body,
            error=error,
            message=message,
            overrun=self._overrun or error == pycurl.E_FILESIZE_EXCEEDED,
            expected_bytes=expected,
            retry_after_s=retry_after,
            location=location,
        )

    def close(self) -> None:
        """Free the handle."""
        self.curl.close()


class CurlLoop:
    """Drives transfers; keeps connections alive between them."""

    def __init__(self, connections: int) -> None:
        self._running: dict[pycurl.Curl, Transfer] = {}
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, connections)

    @property
    def active(self) -> int:
        """Transfers under way."""
        return len(self._running)

    def begin(self, transfer: Transfer) -> None:
        """Start a transfer that was made ready."""
        self._running[transfer.curl] = transfer
        self._multi.add_handle(transfer.curl)

    def abort(self) -> list[Transfer]:
        """End all transfers unfinished."""
        aborted = list(self._running.values())
        for transfer in aborted:
            self._multi.remove_handle(transfer.curl)
        self._running.clear()
        return aborted

    def drive(self, timeout_s: float) -> list[tuple[Transfer, Answer]]:
        """Wait for news for at most `timeout_s`, move all transfers on, return those that ended."""
        self._wait(timeout_s)
        if not self._running:
            return []
        self._multi.perform()
        return self._finished()

    def close(self) -> None:
        """Close all connections; the transfers' handles are the caller's."""
        self.abort()
        self._multi.close()

    def _wait(self, timeout_s: float) -> None:
        if not self._running:
            if timeout_s > 0:
                time.sleep(timeout_s)
            return
        due_ms = self._multi.timeout()
        wait = min(timeout_s, LONGEST_WAIT_S)
        if due_ms >= 0:
            wait = min(wait, due_ms / 1000)
        if wait <= 0:
            return
        began = time.monotonic()
        if self._multi.select(wait) == 0 and time.monotonic() - began < wait / 2:
            # No socket to wait for yet (a name is being looked up): select came back at once.
            time.sleep(min(wait, BLIND_WAIT_S))

    def _finished(self) -> list[tuple[Transfer, Answer]]:
        ended: list[tuple[Transfer, Answer]] = []
        while True:
            queued, good, wrong = self._multi.info_read()
            for curl, error, message in (*((curl, 0, "") for curl in good), *wrong):
                self._multi.remove_handle(curl)
                transfer = self._running.pop(curl)
                ended.append((transfer, transfer.answer(error, message)))
            if not queued:
                return ended
