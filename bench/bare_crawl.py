"""The least that a first image sync could be: what `bench.discovery` compares ours with.

aiohttp, msgspec, `executemany` into plain tables, one commit a call. It keeps no queue, no history,
no quota and no proof that a list is complete. It reads all pages of one list, then asks batch for
what it found, and prints calls and CPU seconds as JSON.

    python -m bench.bare_crawl DATABASE LISTINGS CALLS_PER_SECOND
"""

import asyncio
import json
import os
import sqlite3
import sys
import time
from pathlib import Path

import aiohttp
import msgspec

PAGE = 100
CONNECTIONS = 32
TABLES = """
CREATE TABLE listings (
    listing_id INTEGER PRIMARY KEY, shop_id INTEGER, state TEXT, created INTEGER);
CREATE TABLE images (listing_id INTEGER, image_id INTEGER, rank INTEGER, url TEXT,
    PRIMARY KEY (listing_id, image_id)) WITHOUT ROWID;
"""


class Image(msgspec.Struct):
    """An image as batch gives it."""

    listing_image_id: int
    rank: int
    url_570xN: str  # noqa: N815 -- Etsy's name


class Listing(msgspec.Struct):
    """A listing."""

    listing_id: int
    shop_id: int
    state: str
    original_creation_timestamp: int
    images: list[Image] = []


class Answer(msgspec.Struct):
    """An answer of both calls."""

    results: list[Listing]


decoder = msgspec.json.Decoder(Answer)


class BareCrawl:
    """Asks at a steady pace and writes every answer at once."""

    def __init__(self, path: Path, session: aiohttp.ClientSession, per_second: float) -> None:
        self.calls = 0
        self.ids: list[int] = []
        self._session = session
        self._every_s = 1 / per_second
        self._next = time.monotonic()
        self._database = sqlite3.connect(path)
        self._database.executescript(f"PRAGMA journal_mode = WAL; {TABLES}")

    async def read(self, paths: list[str]) -> None:
        """Ask for each path."""
        gate = asyncio.Semaphore(CONNECTIONS)

        async def one(path: str) -> None:
            async with gate:
                self._next = max(self._next + self._every_s, time.monotonic())
                await asyncio.sleep(self._next - time.monotonic())
                async with self._session.get(os.environ["ETSY_API_URL"] + path) as response:
                    body = await response.read()
            response.raise_for_status()
            self.calls += 1
            self._write(decoder.decode(body).results)

        await asyncio.gather(*map(one, paths))

    def _write(self, found: list[Listing]) -> None:
        self.ids += [one.listing_id for one in found]
        with self._database:
            self._database.executemany(
                "INSERT OR REPLACE INTO listings VALUES (?, ?, ?, ?)",
                [
                    (one.listing_id, one.shop_id, one.state, one.original_creation_timestamp)
                    for one in found
                ],
            )
            self._database.executemany(
                "INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?)",
                [
                    (one.listing_id, image.listing_image_id, image.rank, image.url_570xN)
                    for one in found
                    for image in one.images
                ],
            )


async def crawl(path: Path, listings: int, per_second: float) -> dict[str, float]:
    """Read a world; returns the calls, and CPU seconds and seconds from the first to the last."""
    key = f"{os.environ['ETSY_API_KEY']}:{os.environ['ETSY_SHARED_SECRET']}"
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(headers={"x-api-key": key}, connector=connector) as session:
        bare = BareCrawl(path, session, per_second)
        cpu, began = time.process_time(), time.monotonic()
        await bare.read(
            [
                f"/listings/active?taxonomy_id=967&sort_on=created&limit={PAGE}&offset={offset}"
                for offset in range(0, listings, PAGE)
            ]
        )
        ids = sorted(set(bare.ids))
        await bare.read(
            [
                "/listings/batch?includes=Images,Shop&listing_ids="
                + ",".join(map(str, ids[start : start + PAGE]))
                for start in range(0, len(ids), PAGE)
            ]
        )
        spent = time.process_time() - cpu
    return {"calls": bare.calls, "cpu_s": spent, "seconds": time.monotonic() - began}


if __name__ == "__main__":
    measured = asyncio.run(crawl(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
    sys.stdout.write(json.dumps(measured))
