"""What must lie in a home after years of churn: the present truth, whatever came before it."""

from __future__ import annotations

from typing import Any

from support import collect_world
from support.collect_world import (
    LISTING_DYNAMIC,
    LISTING_STATIC,
    SHOP_DYNAMIC,
    SHOP_STATIC,
    Truth,
    read_reviews,
    read_table,
    true_reviews,
    values,
)
from support.sync_world import Home, digest, file_of, findable

RECENT_S = 3600


def check_image_files(home: Home, truth: list[dict[str, Any]]) -> None:
    """Every image of every listing that the search shows is here to the byte.

    Images of ended listings stay, so there are more files; `verify` looked at those.
    """
    assert home.sandbox is not None
    active = {row[0] for row in home.rows("SELECT listing_id FROM listings WHERE state='active'")}
    expected = findable(home.sandbox)
    assert active == expected, f"missing {expected - active}, too many {active - expected}"
    files = home.files()
    wanted = {file_of(row): row["sha256"] for row in truth}
    missing = wanted.keys() - files.keys()
    assert not missing, f"{len(missing)} of {len(wanted)} files are missing: {sorted(missing)[:5]}"
    wrong = [name for name, sha in wanted.items() if digest(files[name]) != sha]
    assert not wrong, f"{len(wrong)} files hold other bytes: {wrong[:5]}"
    assert not home.rows("SELECT * FROM images WHERE status NOT IN ('done', 'gone')")


def check_history(home: collect_world.Home, truth: Truth, now_s: float) -> None:
    """The newest row of everything that lives is of the last sync and says the truth."""
    newest = {
        table: _newest(read_table(home, table))
        for table in ("shops", "shops_dynamic", "listings", "listings_dynamic")
    }
    living = {shop_id: shop for shop_id, shop in truth.shops.items() if not shop["gone"]}
    known = {row[0] for row in home.rows("SELECT shop_id FROM sync_state")}
    furnishing = {
        r["shop_id"] for r in truth.listings.values() if r["findable"] and r["is_furniture"]
    }
    assert furnishing <= known
    for shop_id in known & living.keys():
        synced_at, row = newest["shops_dynamic"][shop_id]
        assert now_s - synced_at < RECENT_S, f"shop {shop_id}: last sync {now_s - synced_at} s ago"
        assert row == values(living[shop_id]["api"], SHOP_DYNAMIC), f"shop {shop_id}"
        static = (synced_at, values(living[shop_id]["api"], SHOP_STATIC))
        assert newest["shops"][shop_id] == static, f"shop {shop_id}"
        for listing in truth.of_shop(shop_id):
            if listing["findable"]:
                _check_listing(newest, listing, now_s)
    _check_ends(newest["listings_dynamic"], truth)
    reviewed = true_reviews(truth, known & living.keys())
    found = read_reviews(home)
    missing = set(reviewed) - set(found)
    assert not missing, f"{len(missing)} of {len(reviewed)} reviews are missing: {min(missing)}"
    # Those of a shop that went meanwhile stay.
    extra = set(found) - set(true_reviews(truth, truth.shops))
    assert len(found) == len(set(found)), "a review twice"
    assert not extra, f"{len(extra)} reviews that nobody wrote: {min(extra)}"


def _newest(rows: dict[tuple[int, int], Any]) -> dict[int, tuple[int, Any]]:
    found: dict[int, tuple[int, Any]] = {}
    for (key, at), row in sorted(rows.items()):
        found[key] = (at, row)
    return found


def _check_listing(newest: dict[str, Any], listing: dict[str, Any], now_s: float) -> None:
    """Static fields too: the last sync came later than they may age."""
    listing_id, api = listing["listing_id"], listing["api"]
    for table, fields in (("listings_dynamic", LISTING_DYNAMIC), ("listings", LISTING_STATIC)):
        told_at, row = newest[table].get(listing_id, (0, None))
        assert row == values(api, fields), f"{table} {listing_id}: {row}"
        assert now_s - told_at < RECENT_S, f"{table} {listing_id}: {now_s - told_at} s ago"


def _check_ends(newest: dict[int, tuple[int, Any]], truth: Truth) -> None:
    """Nothing is held for active that has ended."""
    state = list(LISTING_DYNAMIC).index("state")
    held = {key for key, (_, row) in newest.items() if row[state][1] == "active"}
    over = {i for i in held if truth.listings[i]["state"] != "active"}
    assert not over, f"{len(over)} listings that ended are held for active: {sorted(over)[:5]}"
