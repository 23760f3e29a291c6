"""Whether a pass finds everything while the lists shift under it by 1 % an hour.

At one call a second, that is one listing in 360,000 for each call. Fast mode makes 90 calls a
second, so the world changes 90 times faster here, that the lists shift as much from call to call.
Listings come, end, are renewed and change their price. A second run shifts ten times as much.
"""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.homes import SMALL_IMAGES, Home
from bench.rows import Row
from furnisync.sandbox.process import SandboxProcess

PROMISED_AN_HOUR = 0.01
CALLS_A_SECOND = 90
HARDER = 10


def run(*, quick: bool) -> list[Row]:
    """Two runs over fresh worlds, compared with the sandbox's truth."""
    return [row for harder in ((1,) if quick else (1, HARDER)) for row in _pass(harder, quick)]


def _pass(harder: int, quick: bool) -> list[Row]:  # noqa: FBT001
    shops, listings = (20, 400) if quick else (900, 30_000)
    share = PROMISED_AN_HOUR * harder * CALLS_A_SECOND
    world = {"shops": shops, "listings": listings, **SMALL_IMAGES}
    with TemporaryDirectory() as folder, SandboxProcess(**world) as sandbox:
        home = Home(Path(folder), sandbox, images={"which": "primary"})
        existed = _findable(sandbox)
        sandbox.churn(per_hour=share)
        began = time.monotonic()
        home.run("images", "--fast")
        took_s = time.monotonic() - began
        sandbox.churn(per_hour=0)
        existed &= _findable(sandbox)
        calls = int(sandbox.asked()["total"])
        found = _found(home)
    missed = len(existed - found)
    changes = share * listings * took_s / 3600
    promised = harder == 1
    return [
        Row(what=f"listings found, lists shifting by {PROMISED_AN_HOUR * harder:.0%} an hour",
            unit="%", value=len(existed & found) / len(existed),
            at_least=1.0 if promised else None,
            how=f"{missed} of {len(existed):,} missed; about {changes:,.0f} changes in the run"),
        Row(what="calls per 1,000 listings in that run", value=calls / listings * 1000,
            how="pages are read again where they do not hang together"),
    ]  # fmt: skip


def _findable(sandbox: SandboxProcess) -> set[int]:
    """Active furniture listings that the search shows."""
    return {
        row["listing_id"]
        for row in sandbox.truth_listings()
        if row["findable"] and row["is_furniture"]
    }


def _found(home: Home) -> set[int]:
    with closing(sqlite3.connect(home.path / "catalog.db")) as catalog:
        rows = catalog.execute("SELECT listing_id FROM listings WHERE last_listed IS NOT NULL")
        return {row[0] for row in rows}
