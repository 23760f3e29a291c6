"""One program's way to the API: the shared ledger and a client that asks it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

from furnisync.clock import Clock
from furnisync.config import Environment, HomeFiles, Mode, Settings
from furnisync.etsy.client import EtsyClient
from furnisync.quota.ledger import Ledger


@asynccontextmanager
async def open_client(
    program: str,
    mode: Mode,
    environment: Environment,
    files: HomeFiles,
    settings: Settings,
    clock: Clock,
) -> AsyncIterator[EtsyClient]:
    """Open the home's ledger for a program and a client over it.

    Args:
        program: "images" or "data", as the ledger shares calls.
        mode: how fast.
        environment: key and address.
        files: where the ledger lies.
        settings: `[quota]` and `[api]`.
        clock: the time.

    Raises:
        ConfigError: no key.
        DatabaseUnusable: the ledger is of a newer version, or not writable.
    """
    key = environment.require_key()
    ledger = Ledger(files.quota, key.fingerprint(), program, mode, settings.quota, clock)
    with closing(ledger):
        async with EtsyClient(environment.api_url, key, ledger, settings.api, clock) as client:
            yield client
