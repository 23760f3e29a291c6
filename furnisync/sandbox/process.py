"""Starts a sandbox in a separate process, for tests, the demo and benchmarks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType
    from typing import Self

__all__ = ["NOON", "SandboxError", "SandboxProcess"]

NOON = 1_781_697_600.0
"""2026-06-17 12:00 UTC, a Wednesday: when a sandbox's time begins unless `start_at` is given.

So its world does not depend on the day, the hour or the time zone in which it is generated.
"""

_ROOT = Path(__file__).resolve().parents[2]


class SandboxError(RuntimeError):
    """The sandbox did not start, or refused a request."""


class SandboxProcess:
    """A running sandbox; options are those of the command line with underscores.

    Its time begins at `NOON`, and `env` moves the clock of the programs too. With `start_at=0`
    it has the current time, for programs whose clock cannot be moved.

    with SandboxProcess(listings=600, qps=50) as sandbox:
        subprocess.run([...], env={**os.environ, **sandbox.env})
    """

    def __init__(self, *, start_timeout_s: float = 120.0, **options: object) -> None:
        self._options = {"start_at": NOON, **options}
        self._start_timeout_s = start_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.api_url = self.cdn_host = self.key = self.secret = ""
        self.pid = 0
        self.clock_offset_s = 0.0
        """Seconds by which its clock is ahead of the machine's."""

    # -- life ------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start the process and wait until it listens."""
        self._folder = tempfile.TemporaryDirectory(prefix="furnisync-sandbox-")
        ready = Path(self._folder.name, "ready.json")
        paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
        # When this process dies, even by a kill, its standard input closes, and it ends too.
        self._process = subprocess.Popen(  # noqa: S603 -- our own interpreter
            [*self._command(), "--ready-file", str(ready), "--watch-stdin"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C ends the program under test, not the sandbox
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        try:
            self._take_address(self._wait_for(ready))
            if self._options["start_at"]:
                self.clock_offset_s = self.now() - time.time()
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """Stop the process with SIGTERM."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the process."""
        self._end(signal.SIGKILL)

    def __enter__(self) -> Self:
        """Start, when used in a `with` statement."""
        return self.start()

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Stop at the end of a `with` statement."""
        self.stop()

    @property
    def env(self) -> dict[str, str]:
        """The settings for another process that uses this sandbox and its current time.

        Moving the clock later affects only processes that start after that.
        """
        there = {"FURNISYNC_CLOCK_OFFSET_S": f"{self.clock_offset_s:.3f}"}
        return {
            **(there if self.clock_offset_s else {}),
            "ETSY_API_URL": self.api_url,
            "ETSY_CDN_HOSTS": self.cdn_host,
            "ETSY_API_KEY": self.key,
            "ETSY_SHARED_SECRET": self.secret,
        }

    # -- reading ---------------------------------------------------------------------------

    def truth_listings(self, *, full: bool = False) -> list[dict[str, Any]]:
        """Return every listing, ended ones too; `full` adds the answer of batch as "api"."""
        return list(self._lines("truth/listings", full=int(full)))

    def truth_images(self, size: str = "570xN", *, digests: bool = True) -> list[dict[str, Any]]:
        """Return every image, with length and sha256 of its file in that size."""
        return list(self._lines("truth/images", size=size, digests=int(digests)))

    def truth_shops(self) -> list[dict[str, Any]]:
        """Return every shop, hidden and closed ones too."""
        return list(self._lines("truth/shops"))

    def truth_reviews(self, shop_id: int) -> list[dict[str, Any]]:
        """Return every review of a shop, oldest first."""
        return list(self._lines("truth/reviews", shop_id=shop_id))

    def asked(self, *, log: bool = False, cdn_log: bool = False) -> dict[str, Any]:
        """Return the requests since the start or the last reset."""
        logs = [name for name, wanted in (("api", log), ("cdn", cdn_log)) if wanted]
        found: dict[str, Any] = self._call("asked?" + urlencode({"log": ",".join(logs)}))
        return found

    # -- control ---------------------------------------------------------------------------

    def reset_asked(self) -> None:
        """Reset the request counts."""
        self._call("asked/reset", {})

    def set_faults(self, rules: list[dict[str, Any]]) -> None:
        """Replace all fault rules; an empty list removes them."""
        self._call("faults", rules)

    def set_limits(self, **limits: float) -> None:
        """Change qps, qpd, free_429 or retry_after_s."""
        self._call("limits", limits)

    def now(self) -> float:
        """Return the sandbox's time."""
        return float(self._call("clock")["now"])

    def move_clock(self, seconds: float) -> float:
        """Move the sandbox's clock forward, apply due changes, and return the new time."""
        now = float(self._call("clock", {"move": seconds})["now"])
        self.clock_offset_s += seconds
        return now

    def churn(self, *changes: dict[str, Any], **settings: Any) -> list[dict[str, Any]]:
        """Apply changes by name, and set per_request, per_hour, reviews_per_hour, mix or any.

        The changes are those of `furnisync.sandbox.world.named_changes`.
        """
        found = self._call("churn", {"changes": list(changes), **settings})
        results: list[dict[str, Any]] = found["results"]
        return results

    def add_node(self, node_id: int, name: str, parent_id: int | None) -> None:
        """Add a node to the taxonomy."""
        self._call("taxonomy", {"add": {"id": node_id, "name": name, "parent_id": parent_id}})

    def drop_node(self, node_id: int) -> None:
        """Remove a leaf from the taxonomy."""
        self._call("taxonomy", {"drop": node_id})

    # -- internal --------------------------------------------------------------------------

    def _command(self) -> Iterable[str]:
        yield from (sys.executable, "-m", "furnisync.sandbox")
        for name, value in self._options.items():
            flag = "--" + name.replace("_", "-")
            if value is True:
                yield flag
            elif value is not False and value is not None:
                yield from (flag, str(value))

    def _wait_for(self, ready: Path) -> dict[str, Any]:
        end = time.monotonic() + self._start_timeout_s
        while not ready.exists():
            if self._process is None or self._process.poll() is not None:
                raise SandboxError("the sandbox ended before it listened; its output is above")
            if time.monotonic() > end:
                raise SandboxError(f"the sandbox took over {self._start_timeout_s} s to start")
            time.sleep(0.02)
        address: dict[str, Any] = json.loads(ready.read_text(encoding="utf-8"))
        return address

    def _take_address(self, address: dict[str, Any]) -> None:
        self.api_url = address["api_url"]
        self.cdn_host = address["cdn_host"]
        self.key = address["api_key"]
        self.secret = address["shared_secret"]
        self.pid = address["pid"]

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdin:
                process.stdin.close()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _open(self, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        url = self.api_url.partition("/v3/")[0] + "/_sandbox/" + path
        try:
            return urllib.request.urlopen(url, data, timeout=300)  # noqa: S310 -- our own address
        except urllib.error.HTTPError as error:
            raise SandboxError(error.read().decode(errors="replace")) from error

    def _call(self, path: str, body: object = None) -> Any:
        with self._open(path, body) as response:
            return json.load(response)

    def _lines(self, path: str, **query: object) -> Iterator[dict[str, Any]]:
        with self._open(f"{path}?{urlencode(query)}") as response:
            for line in response:
                yield json.loads(line)
