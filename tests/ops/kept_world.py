"""A small home as both syncs would have left it, made without any process or network."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from furnisync.catalog.image_folder import identify, settle
from furnisync.catalog.image_queue import Shown, add_images, record_outcomes
from furnisync.catalog.listings import Batched, ImageRow, Listed, add_listed, record_batch
from furnisync.catalog.schema import open_catalog
from furnisync.config import DataSettings, HomeFiles
from furnisync.history import claims, reviews, snapshots, staging
from furnisync.history.fields.pseudonyms import read_buyers
from furnisync.history.fields.selection import Selection
from furnisync.history.schema import open_history
from furnisync.image_job import ImageJob, ImageOutcome
from furnisync.images.metadata import write_metadata
from furnisync.sqlite.database import transaction
from furnisync.store.folder import FolderStore

NOW = 1_790_000_000
DAY = 86_400
SHOPS = {1: (1001, 1002), 2: (2001, 2002)}
"""Listings by shop; each has two images."""
BUYERS = {1001: 501, 1002: 502, 2001: 501, 2002: 503}


class MovedClock:
    """A clock that stands where a test puts it."""

    def __init__(self, now: float = NOW) -> None:
        self.at = now

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


def picture(seed: int) -> bytes:
    body = BytesIO()
    Image.new("RGB", (60, 40), (seed * 37 % 256, seed * 91 % 256, 9)).save(body, "JPEG")
    return body.getvalue()


class KeptHome:
    """`files` of a home with a catalog, its images, a history and the metadata file."""

    def __init__(self, path: Path, data: DataSettings | None = None) -> None:
        path.mkdir(exist_ok=True)
        self.files = HomeFiles(path)
        self.data = data or DataSettings()
        self.clock = MovedClock()

    def selection(self) -> Selection:
        buyers = read_buyers(self.files.buyer_key, self.data.buyer_user_id)
        return Selection.of(buyers=buyers)

    def make(self) -> KeptHome:
        self.find_listings(NOW)
        self.append_history(NOW)
        return self

    # -- what image sync does ------------------------------------------------------------------

    def find_listings(self, now: int, shops: dict[int, tuple[int, ...]] = SHOPS) -> None:
        """List, batch and download everything, and write the metadata file."""
        store = FolderStore(self.files.images)
        with closing(open_catalog(self.files.catalog)) as catalog:
            with transaction(catalog):
                settle(catalog, self.files, identify(catalog, self.files))
                for shop_id, ids in shops.items():
                    self._find_shop(catalog, store, shop_id, ids, now)
            write_metadata(catalog, self.files.metadata, "images")

    def _find_shop(
        self,
        catalog: sqlite3.Connection,
        store: FolderStore,
        shop_id: int,
        ids: tuple[int, ...],
        now: int,
    ) -> None:
        add_listed(catalog, [Listed(one, shop_id, 967, 10.0, now) for one in ids], now)
        for listing_id in ids:
            images = [
                ImageRow(listing_id * 10 + n, n, f"https://i.etsystatic.com/{listing_id}/{n}.jpg")
                for n in (1, 2)
            ]
            told = Batched(listing_id, shop_id, 967, "active", 10.0, now, images)
            record_batch(catalog, [told], now, now + 30 * DAY)
            add_images(catalog, [Shown(listing_id, images)], "all", now)
            waiting = catalog.execute(
                "SELECT image_id FROM images WHERE listing_id = ? AND file IS NULL", (listing_id,)
            ).fetchall()
            for (image_id,) in waiting:
                body = picture(image_id)
                file = store.put(listing_id, image_id, "jpg", body)
                sha256 = hashlib.sha256(body).digest()
                job = ImageJob(listing_id, image_id, "")
                done = ImageOutcome(job, "done", None, file, len(body), 60, 40, sha256)
                record_outcomes(catalog, [done], "570xN", now)

    # -- what data sync does -------------------------------------------------------------------

    def append_history(self, now: int, shops: dict[int, tuple[int, ...]] = SHOPS) -> None:
        """Sync each shop, with a review of each listing."""
        selection = self.selection()
        with closing(open_history(self.files.history, selection)) as history:
            for shop_id, ids in shops.items():
                with transaction(history):
                    self._sync_shop(history, selection, shop_id, ids, now)

    def _sync_shop(
        self,
        history: sqlite3.Connection,
        selection: Selection,
        shop_id: int,
        ids: tuple[int, ...],
        now: int,
    ) -> None:
        staging.begin_shop_sync(history, shop_id, now, ids=ids)
        claim = claims.Claims().take(history)
        assert claim is not None
        shop = {"shop_id": shop_id, "listing_active_count": len(ids)}
        answers = [
            {
                "listing_id": one,
                "shop_id": shop_id,
                "title": f"Table {one}",
                "state": "active",
                "shop": shop,
            }
            for one in ids
        ]
        snapshots.take_batch(history, selection, claim, answers, now_s=now)
        told = [
            {
                "transaction_id": one + now,
                "listing_id": one,
                "buyer_user_id": BUYERS[one],
                "rating": 5,
                "review": "good",
                "create_timestamp": now,
            }
            for one in ids
        ]
        reviews.append_reviews(history, selection, shop_id, told, now_s=now)

    # -- looking -------------------------------------------------------------------------------

    def rows(self, sql: str, *values: object, history: bool = False) -> list[tuple[Any, ...]]:
        path = self.files.history if history else self.files.catalog
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute(sql, values).fetchall()

    def change(self, sql: str, *values: object, history: bool = False) -> None:
        path = self.files.history if history else self.files.catalog
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(sql, values)

    def images(self) -> list[Path]:
        return sorted(self.files.images.glob("[0-9]*/*"))

    def metadata(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.files.metadata.read_bytes())
        return found

    def check_counters(self) -> None:
        """The counters of `status` are what a count says."""
        counted = dict(self.rows("SELECT 'images.' || status, count(*) FROM images GROUP BY 1"))
        counted |= dict(self.rows("SELECT 'listings.' || state, count(*) FROM listings GROUP BY 1"))
        counted["shops"] = self.rows("SELECT count(*) FROM shops")[0][0]
        counted["images.bytes"] = self.rows("SELECT coalesce(sum(bytes), 0) FROM images")[0][0]
        kept = dict(self.rows("SELECT name, value FROM counters WHERE value <> 0"))
        assert kept == {name: value for name, value in counted.items() if value}
