"""Where data sync learns of shops: the catalogue, or `image_metadata.json` where there is none."""

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import ijson

from furnisync.catalog.schema import read_catalog
from furnisync.config import HomeFiles
from furnisync.errors import ConfigError

log = logging.getLogger("furnisync.data")


def read_shops(files: HomeFiles) -> list[tuple[int, int]]:
    """All known shops with their numbers of active furniture listings.

    Raises:
        ConfigError: there is neither source, or the metadata file cannot be used.
        DatabaseUnusable: the catalogue cannot be used.
    """
    if files.catalog.exists():
        with closing(read_catalog(files.catalog)) as catalog:
            rows = catalog.execute(
                "SELECT shop_id, (SELECT count(*) FROM listings"
                " WHERE listings.shop_id = shops.shop_id AND state = 'active') FROM shops"
            )
            shops = [(int(shop_id), int(number)) for shop_id, number in rows]
    elif files.metadata.exists():
        shops = sorted(_count_in_metadata(files.metadata).items())
    else:
        raise ConfigError(
            f"{files.home} holds neither {files.catalog.name} nor {files.metadata.name}, which"
            " tell the shops: run sync_images.py first."
        )
    if not shops:
        raise ConfigError(
            f"No shop is known in {files.home} yet: let sync_images.py find some listings first."
        )
    return shops


def listings_of_shop(files: HomeFiles, shop_id: int) -> list[int]:
    """Active listings of a shop that image sync knows; none where there is no catalogue."""
    if not files.catalog.exists():
        return []
    with closing(read_catalog(files.catalog)) as catalog:
        rows = catalog.execute(
            "SELECT listing_id FROM listings WHERE shop_id = ? AND state = 'active'", (shop_id,)
        )
        return [int(row[0]) for row in rows]


def _count_in_metadata(path: Path) -> Counter[int]:
    """Listings of each shop; the file is streamed, whatever its size."""
    shops: Counter[int] = Counter()
    try:
        with path.open("rb") as file:
            for listing_id, shop_id in _entries(path, file):
                if shop_id is None:
                    log.warning("%s: listing %s has no shop", path.name, listing_id)
                else:
                    shops[shop_id] += 1
    except ijson.JSONError as error:
        raise ConfigError(
            f"{path} is cut off or no JSON ({error}): run sync_images.py, which writes it anew."
        ) from error
    return shops


def _entries(path: Path, file: object) -> Iterator[tuple[str, int | None]]:
    for listing_id, entry in ijson.kvitems(file, "", use_float=True):
        if not isinstance(entry, dict) or not isinstance(entry.get("images"), list):
            raise ConfigError(
                f"{path} is in the form of an older tool (listing {listing_id}): run"
                " sync_images.py, which finds these shops and writes the present form."
            )
        shop_id = entry.get("shop_id")
        yield listing_id, shop_id if isinstance(shop_id, int) else None
