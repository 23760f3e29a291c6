"""Access of one program to the API: the shared ledger and a client that uses it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

from furnisync import __version__
from furnisync.clock import Clock
from furnisync.config import Environment, HomeFiles, Mode, Settings
from furnisync.etsy.client import EtsyClient
from furnisync.http.exchange import ExchangeLimits
from furnisync.http.network import read_network
from furnisync.http.transport import CurlTransport
from furnisync.quota.ledger import Ledger

MAX_BODY_BYTES = 64_000_000
"""Maximum size of one answer, unpacked."""


@asynccontextmanager
async def open_client(
    program: str,
    mode: Mode,
    environment: Environment,
    files: HomeFiles,
    settings: Settings,
    clock: Clock,
) -> AsyncIterator[EtsyClient]:
    """Open the home's ledger for a program, and a client that uses it.

    Args:
        program: "images" or "data", as the ledger shares calls.
        mode: how fast.
        environment: key and URL.
        files: the home with the ledger.
        settings: `[quota]` and `[api]`.
        clock: the time.

    Raises:
        ConfigError: no key, or a proxy or certificates that cannot be used.
        DatabaseUnusable: the ledger is of a newer version, or not writable.
    """
    key, api = environment.require_key(), settings.api
    network = read_network(environment.network)
    limits = ExchangeLimits(MAX_BODY_BYTES, api.timeout_s, f"furnisync/{__version__}", "gzip")
    transport = CurlTransport(network, api.connections, limits)
    ledger = Ledger(files.quota, key.fingerprint(), program, mode, settings.quota, clock)
    with closing(ledger):
        async with EtsyClient(environment.api_url, key, ledger, api, clock, transport) as client:
            yield client
