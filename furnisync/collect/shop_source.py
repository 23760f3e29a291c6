"""The shops of data sync: from the catalog, or from `image_metadata.json` if there is none."""

import logging
import sqlite3
from array import array
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import ijson

from furnisync.catalog.schema import read_catalog
from furnisync.config import HomeFiles
from furnisync.errors import ConfigError, DatabaseUnusable

log = logging.getLogger("furnisync.collect")

ByShop = dict[int, "array[int]"]


class ShopSource:
    """Shops and furniture listings as image sync knows them now."""

    def __init__(self, files: HomeFiles) -> None:
        self._files = files
        self._read: tuple[tuple[int, int], ByShop] | None = None

    def shops(self) -> list[tuple[int, int]]:
        """All known shops with their numbers of active furniture listings.

        Raises:
            ConfigError: both sources are missing, or the metadata file is unusable.
            DatabaseUnusable: the catalog is unusable.
        """
        files = self._files
        if self.has_catalog():
            shops = self._in_catalog()
        elif files.metadata.exists():
            shops = [(shop_id, len(ids)) for shop_id, ids in self._in_metadata().items()]
        else:
            raise ConfigError(
                f"{files.home} has neither {files.catalog.name} nor {files.metadata.name}, which"
                " name the shops: run sync_images.py first."
            )
        if not shops:
            raise ConfigError(
                f"{self._path} knows no shop yet: let sync_images.py find some first."
            )
        return shops

    def _in_catalog(self) -> list[tuple[int, int]]:
        # One pass over the table: the index on shop_id would need a lookup for each listing.
        counts = self._ask_catalog(
            "SELECT shop_id, count(*) FROM listings NOT INDEXED"
            " WHERE state = 'active' GROUP BY +shop_id"
        )
        listings = dict(counts)
        known = self._ask_catalog("SELECT shop_id, 0 FROM shops")
        return [(shop_id, listings.get(shop_id, 0)) for shop_id, _ in known]

    @property
    def _path(self) -> Path:
        return self._files.catalog if self.has_catalog() else self._files.metadata

    def has_catalog(self) -> bool:
        """Whether there is a catalog that image sync has finished creating."""
        path = self._files.catalog
        return path.exists() and path.stat().st_size > 0

    def listings_of(self, shop_id: int, *, active: bool = True) -> list[int]:
        """Furniture listings of a shop: the active or the ended ones."""
        if self.has_catalog():
            rows = self._ask_catalog(
                "SELECT listing_id, 0 FROM listings WHERE shop_id = ? AND (state = 'active') IS ?",
                shop_id,
                int(active),
            )
            return [listing_id for listing_id, _ in rows]
        if not active:
            return []
        if self._files.metadata.exists():
            return list(self._in_metadata().get(shop_id, ()))
        return []

    def _ask_catalog(self, sql: str, *values: int) -> list[tuple[int, int]]:
        path = self._files.catalog
        with closing(read_catalog(path)) as catalog:
            try:
                return [(row[0], row[1]) for row in catalog.execute(sql, values)]
            except sqlite3.DatabaseError as error:
                raise DatabaseUnusable(
                    f"{path} cannot be used as a catalog ({error}): restore it from a backup, or"
                    " move it away so that sync_images.py makes a new one."
                ) from error

    def _in_metadata(self) -> ByShop:
        """Listings by shop; the file is read again after it changed."""
        path = self._files.metadata
        status = path.stat()
        mark = (status.st_mtime_ns, status.st_size)
        if self._read is None or self._read[0] != mark:
            self._read = (mark, _read_metadata(path))
        return self._read[1]


def read_shops(files: HomeFiles) -> list[tuple[int, int]]:
    """`ShopSource.shops` for a single use."""
    return ShopSource(files).shops()


def _read_metadata(path: Path) -> ByShop:
    """Listings of each shop; the file is streamed, so any size works."""
    shops: ByShop = {}
    try:
        with path.open("rb") as file:
            for listing_id, shop_id in _entries(path, file):
                if shop_id is None:
                    log.warning("%s: listing %s has no shop", path.name, listing_id)
                else:
                    shops.setdefault(shop_id, array("q")).append(int(listing_id))
    except (ijson.JSONError, ValueError) as error:
        raise ConfigError(
            f"{path} is truncated or not JSON ({error}): run sync_images.py, which writes it again."
        ) from error
    return shops


def _entries(path: Path, file: object) -> Iterator[tuple[str, int | None]]:
    for listing_id, entry in ijson.kvitems(file, "", use_float=True):
        if not isinstance(entry, dict) or not isinstance(entry.get("images"), list):
            raise ConfigError(
                f"{path} is in the form of an older tool (listing {listing_id}): run"
                f" `furnisync import {path.parent}` first, which imports these shops."
            )
        shop_id = entry.get("shop_id")
        yield listing_id, shop_id if isinstance(shop_id, int) else None
