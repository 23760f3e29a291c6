"""The doctor's checks that ask Etsy (one ping), and macOS about its sleep."""

import asyncio
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec

from furnisync.clock import Clock
from furnisync.config import Environment, HomeFiles, Settings
from furnisync.errors import KeyRefused, Terminal, Transient
from furnisync.etsy.access import open_client
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
        except (Transient, Terminal) as error:
            remedy = (
                "Check the network, proxy and certificates (see network above), ETSY_API_URL and"
                " status.etsy.com; the syncs wait by themselves."
            )
            return [
                Check("key", "fail", f"{environment.api_url} does not answer ({error})", remedy)
            ]
        return [Check("key", "ok", "Etsy accepts it"), _check_clock(client.clock_behind_s)]


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
