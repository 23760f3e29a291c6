"""The doctor's checks that ask Etsy and its image server, and macOS about its sleep.

One ping is sent, and two more calls while the home knows no image yet.
"""

import asyncio
import os
import re
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec

from furnisync.catalog.schema import read_catalog
from furnisync.clock import Clock
from furnisync.config import Environment, HomeFiles, Settings
from furnisync.download.limits import download_limits
from furnisync.download.sizes import url_of_size
from furnisync.download.url_policy import shown_host
from furnisync.errors import DatabaseUnusable, GaveUp, KeyRefused, Terminal, Transient
from furnisync.etsy.access import open_client
from furnisync.etsy.client import EtsyClient
from furnisync.http.network import read_network
from furnisync.images.controls import fetch_unstored
from furnisync.ops.checks.doctor import Check
from furnisync.ops.service.service import ask_system

TIMEOUT_S: Final = 20.0
"""The doctor waits this long at most, for the ledger too, whose calls may be spent."""
CLOCK_WARN_S: Final = 60.0
CLOCK_FAIL_S: Final = 3600.0

Ask = Callable[..., subprocess.CompletedProcess[str]]


def check_key(
    environment: Environment, files: HomeFiles, settings: Settings, clock: Clock
) -> Iterator[Check]:
    """Whether Etsy accepts the key, and whether the clock agrees with Etsy's."""
    if environment.key is None:
        yield Check(
            "key",
            "fail",
            "ETSY_API_KEY and ETSY_SHARED_SECRET are not set",
            f"Put both (etsy.com/developers/your-apps) into {environment.home / '.env'}.",
        )
        return
    yield from asyncio.run(_ping(environment, files, settings, clock))


async def _ping(
    environment: Environment, files: HomeFiles, settings: Settings, clock: Clock
) -> list[Check]:
    api = msgspec.structs.replace(settings.api, attempts=1, timeout_s=TIMEOUT_S / 2)
    once = msgspec.structs.replace(settings, api=api)
    async with AsyncExitStack() as stack:
        counting = stack.enter_context(_counting_home(files))
        client = await stack.enter_async_context(
            open_client("doctor", "slow", environment, counting, once, clock)
        )
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await client.clock.look()
        except KeyRefused as error:
            return [Check("key", "fail", "Etsy refuses it", str(error))]
        except TimeoutError:
            remedy = "See the quota below; try again when calls are left."
            return [Check("key", "warn", "not tried: no call was free", remedy)]
        except (Transient, Terminal, GaveUp) as error:
            remedy = (
                "Check the network, proxy and certificates (see network above), ETSY_API_URL and"
                " status.etsy.com; the syncs wait and retry automatically."
            )
            return [
                Check("key", "fail", f"{environment.api_url} does not answer ({error})", remedy)
            ]
        found = [Check("key", "ok", "Etsy accepts it"), _check_clock(client.clock_behind_s)]
        try:
            async with asyncio.timeout(TIMEOUT_S):
                url = _known_image(files) or await _first_image(client, settings)
        except (TimeoutError, Transient, Terminal, GaveUp) as error:
            return [*found, Check("image server", "warn", f"not tried ({error})", "Try again.")]
        return [*found, await asyncio.to_thread(_check_image, url, environment, settings, clock)]


def _known_image(files: HomeFiles) -> str | None:
    """The url of an image that came lately; None if the home has none."""
    try:
        with closing(read_catalog(files.catalog)) as catalog:
            row = catalog.execute(
                "SELECT url FROM images WHERE done_at IS NOT NULL AND url <> ''"
                " ORDER BY done_at DESC LIMIT 1"
            ).fetchone()
    except (DatabaseUnusable, sqlite3.DatabaseError):
        return None
    return None if row is None else str(row[0])


async def _first_image(client: EtsyClient, settings: Settings) -> str | None:
    """The url of an image of the first listing that a search for furniture shows."""
    node = settings.crawl.root_taxonomy_id
    shown = await client.listings_active(taxonomy_id=node, limit=1)
    if not shown.items:
        return None
    (listing,) = (await client.listings_batch([shown.items[0].listing_id])).items or (None,)
    if listing is None or not listing.images or listing.images[0] is None:
        return None
    return listing.images[0].url_570xN


def _check_image(
    url: str | None, environment: Environment, settings: Settings, clock: Clock
) -> Check:
    if url is None:
        return Check("image server", "warn", "not tried: Etsy named no image", "Try again later.")
    limits = download_limits(settings.images, "slow", environment)
    network = read_network(environment.network)
    outcome = fetch_unstored(url_of_size(url, settings.images.size), limits, clock, network)
    host = shown_host(url)
    if outcome is not None and outcome.result == "done":
        return Check("image server", "ok", f"{host} sends images")
    if outcome is not None and outcome.result == "gone":
        return Check("image server", "ok", f"{host} answers; the image that was tried is gone")
    reason = (
        "it asks for a pause" if outcome is None or outcome.reason is None else outcome.reason.words
    )
    remedy = "Check the network, proxy and certificates (see network above), and ETSY_CDN_HOSTS."
    return Check("image server", "fail", f"{host} sends no image ({reason})", remedy)


@contextmanager
def _counting_home(files: HomeFiles) -> Iterator[HomeFiles]:
    """Where the ping is counted: in the home, or in a temporary one if that has no ledger yet.

    The doctor creates none, and on a read-only file system none can be written.
    """
    if os.access(files.quota, os.W_OK) and os.access(files.home, os.W_OK):
        yield files
    else:
        with TemporaryDirectory() as aside:
            yield HomeFiles(Path(aside))


def _check_clock(behind_s: float | None) -> Check:
    if behind_s is None:
        return Check("clock", "ok", "Etsy's answer had no date to compare with")
    words = f"{abs(behind_s):,.0f} s {'behind' if behind_s > 0 else 'ahead of'} Etsy's"
    if abs(behind_s) < CLOCK_WARN_S:
        return Check("clock", "ok", "agrees with Etsy's")
    remedy = "Let the computer set its clock by the network: every row has its time."
    return Check("clock", "fail" if abs(behind_s) > CLOCK_FAIL_S else "warn", words, remedy)


def check_sleep(platform: str, *, services: bool, ask: Ask = ask_system) -> Check | None:
    """Whether a Mac would sleep while a sync runs; None if it is no Mac.

    `services`: whether the syncs run as services, which keep it awake.
    """
    if platform != "darwin":
        return None
    answer = ask("pmset", "-g")
    found = re.search(r"^\s*sleep\s+(\d+)", answer.stdout, re.MULTILINE)
    if answer.returncode != 0 or found is None:
        return Check("sleep", "warn", "pmset does not say", "Run syncs under `caffeinate -i`.")
    minutes = int(found[1])
    if minutes == 0:
        return Check("sleep", "ok", "this Mac does not sleep by itself")
    if services:
        return Check("sleep", "ok", "the services keep this Mac awake while they run")
    return Check(
        "sleep",
        "warn",
        f"this Mac sleeps after {minutes} idle minutes",
        "Run syncs as services, or under `caffeinate -i`.",
    )
