"""Whether a pass finds everything while the lists shift under it.

A pass over 1.4 million listings at one call a second takes 8 hours; at 1 % an hour 4 listings come,
end, are renewed or change their price between two calls, 8 % of all in the whole pass. The same two
figures hold here: 20,000 listings, 4 changes after each call.
"""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.homes import SMALL_IMAGES, Home
from bench.rows import Row
from furnisync.sandbox.process import SandboxProcess

CHANGES_A_CALL = 4


def run(*, quick: bool) -> list[Row]:
    """One pass, held against the sandbox's truth."""
    shops, listings = (20, 400) if quick else (600, 20_000)
    world = {"shops": shops, "listings": listings, **SMALL_IMAGES}
    with TemporaryDirectory() as folder, SandboxProcess(**world) as sandbox:
        home = Home(Path(folder), sandbox, images={"which": "primary"})
        existed = _findable(sandbox)
        sandbox.churn(per_request=CHANGES_A_CALL)
        began = time.monotonic()
        home.run("images", "--fast")
        took_s = time.monotonic() - began
        sandbox.churn(per_request=0)
        existed &= _findable(sandbox)
        calls = int(sandbox.asked()["total"])
        found = _found(home)
    missed = len(existed - found)
    how = f"{missed} of {len(existed):,} missed; {CHANGES_A_CALL * calls:,} changes in the pass"
    return [
        Row(what="listings found of those that existed throughout", unit="%",
            value=len(existed & found) / len(existed), at_least=1.0, how=how),
        Row(what="calls per 1,000 listings while lists shift so", value=calls / listings * 1000,
            how=f"{took_s:.0f} s; pages are read again where neighbours share nothing"),
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
