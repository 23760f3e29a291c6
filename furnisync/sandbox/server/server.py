"""Builds, runs and stops a sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from aiohttp import web

from furnisync.sandbox.clock import Clock
from furnisync.sandbox.pictures.pictures import Pictures
from furnisync.sandbox.prng import mix
from furnisync.sandbox.server.api import PREFIX, Api, ApiParts
from furnisync.sandbox.server.calls import Calls
from furnisync.sandbox.server.cdn import Cdn, CdnConnection
from furnisync.sandbox.server.control import Control, ControlParts
from furnisync.sandbox.server.faults import Faults
from furnisync.sandbox.server.limits import Limits
from furnisync.sandbox.server.request_log import RequestLog
from furnisync.sandbox.world.changes import Changes
from furnisync.sandbox.world.churn import Churn
from furnisync.sandbox.world.generate import Maker, generate
from furnisync.sandbox.world.objects import Writer
from furnisync.sandbox.world.truth import Truth

if TYPE_CHECKING:
    from furnisync.sandbox.options import Options
    from furnisync.sandbox.world.world import World

__all__ = ["Sandbox", "run"]

_HOST = "127.0.0.1"
_WARM_SIZE = "570xN"
_WARM_LISTINGS = 20_000


@dataclass(frozen=True, slots=True)
class _Shared:
    """The parts that both servers use."""

    clock: Clock
    faults: Faults
    asked: RequestLog
    pictures: Pictures
    world: World


class Sandbox:
    """One local fake Etsy: `start`, then `address`, then `stop`."""

    def __init__(self, options: Options) -> None:
        self._options = options
        clock = Clock(options.start_at or None)
        faults = Faults(options.seed)
        if options.faults:
            faults.set(json.loads(Path(options.faults).read_text(encoding="utf-8")))
        pictures = Pictures(options.image_bytes, options.pictures)
        world = generate(options, clock.now())
        self._shared = _Shared(clock, faults, RequestLog(), pictures, world)
        self._key = f"sandbox{mix(options.seed, 1):016x}"
        self._secret = f"{mix(options.seed, 2):016x}"[:10]
        self._runner: web.ServerRunner | None = None
        self._cdn_server: asyncio.Server | None = None
        self._warming: asyncio.Future[None] | None = None
        self.address: dict[str, Any] = {}

    async def start(self) -> None:
        """Listen on both ports."""
        loop = asyncio.get_running_loop()
        shared, options = self._shared, self._options
        latency_s = options.cdn_latency_ms / 1000
        cdn = Cdn(
            shared.world, shared.pictures, shared.clock, shared.faults, shared.asked, latency_s
        )
        self._cdn_server = await loop.create_server(
            lambda: CdnConnection(cdn), _HOST, options.cdn_port, backlog=512
        )
        cdn_host = f"{_HOST}:{self._cdn_server.sockets[0].getsockname()[1]}"
        api = self._make_api(cdn_host)
        self._runner = web.ServerRunner(
            web.Server(api.handle, access_log=None), shutdown_timeout=0.5
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, _HOST, options.port, backlog=512).start()
        self.address = {
            "api_url": f"http://{_HOST}:{self._runner.addresses[0][1]}{PREFIX.rstrip('/')}",
            "cdn_host": cdn_host,
            "api_key": self._key,
            "shared_secret": self._secret,
            "pid": os.getpid(),
        }
        threading.Thread(target=shared.pictures.warm, args=(_WARM_SIZE,), daemon=True).start()
        self._warming = asyncio.ensure_future(self._warm(self._writer))

    async def stop(self) -> None:
        """Close both ports and all connections."""
        if self._warming:
            self._warming.cancel()
        if self._runner:
            await self._runner.cleanup()
        if self._cdn_server:
            self._cdn_server.close()

    async def _warm(self, writer: Writer) -> None:
        """Encode listings in idle time, so that a first pass is as fast as a second."""
        for listing in self._shared.world.listings[:_WARM_LISTINGS]:
            writer.warm(listing)
            if listing.serial % 8 == 0:
                await asyncio.sleep(0.001)

    def _make_api(self, cdn_host: str) -> Api:
        shared, options = self._shared, self._options
        now = shared.clock.now
        self._writer = writer = Writer(shared.world, shared.pictures, cdn_host, now)
        limits = Limits(options.qps, options.qpd, options.day_seconds, free_429=options.free_429)
        limits.retry_after_s = options.retry_after
        maker = Maker(shared.world, Random(options.seed + 2), options.images_mean)
        changes = Changes(shared.world, maker)
        rates = (options.churn_per_hour, options.reviews_per_hour)
        churn = Churn(shared.world, changes, *rates, now())
        truth = Truth(shared.world, writer, shared.pictures, shared.faults)
        control = Control(
            ControlParts(
                shared.world,
                truth,
                shared.asked,
                shared.faults,
                limits,
                shared.clock,
                churn,
                changes,
            )
        )
        parts = ApiParts(
            Calls(shared.world, writer),
            shared.clock,
            limits,
            shared.faults,
            churn,
            shared.asked,
            self._key,
            self._secret,
        )
        return Api(parts, options.latency_ms, control.handle)


def run(options: Options) -> None:
    """Run a sandbox until SIGTERM or SIGINT."""
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)  # broken connections are intended
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(options))


async def _serve(options: Options) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    sandbox = Sandbox(options)
    await sandbox.start()
    # Else each full collection reads the whole world: a stall of 100 ms and more, in which calls
    # wait, and after which they are counted as if they had come at once.
    gc.collect()
    gc.freeze()
    if options.watch_stdin:
        loop.add_reader(sys.stdin.fileno(), _on_stdin, ended)
    line = json.dumps(sandbox.address)
    if options.ready_file:
        _write_whole(Path(options.ready_file), line + "\n")
    print(line, flush=True)  # noqa: T201 -- the parent process reads it
    await ended.wait()
    await sandbox.stop()


def _on_stdin(ended: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 1024):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        ended.set()


def _write_whole(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
