"""Objects as Etsy would send them, and a hand that plays the collector."""

import tempfile
from functools import cache
from pathlib import Path

from furnisync.history.arrivals import sort_batch, stage_arrival, stage_shop
from furnisync.history.claims import Claims
from furnisync.history.fields.selection import Selection
from furnisync.history.schema import open_history
from furnisync.history.snapshots import append_shop_sync
from furnisync.history.staging import begin_shop_sync, stage_list_page

DAY = 86_400
T0 = 1_780_000_000


@cache
def _empty_file():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "etsy_data.db"
        history = open_history(path, Selection.of())
        history.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        history.close()
        return path.read_bytes()


def new_history(folder):
    """An empty history without waiting for the disk, for tests that make many."""
    path = folder / "etsy_data.db"
    path.write_bytes(_empty_file())
    history = open_history(path, Selection.of())
    history.execute("PRAGMA synchronous = OFF")
    return history


def shop(shop_id, **changes):
    return {
        "shop_id": shop_id,
        "shop_name": f"Shop{shop_id}",
        "create_date": 1_500_000_000,
        "update_date": 1_700_000_000,
        "listing_active_count": 3,
        "accepts_custom_requests": False,
        "url": f"https://www.etsy.com/shop/Shop{shop_id}",
        "num_favorers": 10,
        "is_shop_us_based": True,
        "transaction_sold_count": 100,
        "shipping_from_country_iso": None,
        "shop_location_country_iso": "US",
        "review_average": 4.75,
        "review_count": 20,
        **changes,
    }


def listing(listing_id, shop_id, **changes):
    return {
        "listing_id": listing_id,
        "user_id": 5,
        "shop_id": shop_id,
        "title": f"Oak table {listing_id} 🪑",
        "description": "Solid oak.\nMade to order. " * 40,
        "state": "active",
        "creation_timestamp": 1_600_000_000,
        "ending_timestamp": 1_800_000_000,
        "quantity": 1,
        "url": f"https://www.etsy.com/listing/{listing_id}/oak-table",
        "num_favorers": 0,
        "is_customizable": True,
        "is_personalizable": False,
        "listing_type": "physical",
        "tags": ["oak", "table"],
        "materials": [],
        "processing_min": 3,
        "processing_max": None,
        "who_made": "i_did",
        "when_made": "made_to_order",
        "item_weight": 12.5,
        "item_weight_unit": "kg",
        "item_length": None,
        "item_width": None,
        "item_height": None,
        "item_dimensions_unit": "cm",
        "should_auto_renew": False,
        "language": "en-US",
        "price": {"amount": 12500, "divisor": 100, "currency_code": "USD"},
        "taxonomy_id": 12371,
        "production_partners": [],
        "views": 7,
        **changes,
    }


def stage_batch(connection, selection, claim, listings, *, now_s):
    """Stage an answer, also what it completes; returns the shops whose listings are all here."""
    arrivals = sort_batch(connection, selection, claim, listings, now_s=now_s)
    states = [stage_arrival(connection, selection, arrival) for arrival in arrivals]
    return [state.shop_id for state in states if state.complete or state.wants_shop]


def sync(connection, selection, shop_id, listings, now, *, known=None, **shop_changes):
    """A whole sync of a shop; `known` are all listings that batch knows (default: the listed)."""
    listed = {item["listing_id"]: item for item in listings}
    known = listed if known is None else {item["listing_id"]: item for item in known}
    begin_shop_sync(connection, shop_id, now)
    stage_list_page(connection, shop_id, list(listed), counted=len(listed), next_offset=None)
    asked, claims = [], Claims()
    while claim := claims.take(connection):
        ids = claim.ids
        asked += ids
        answer = [{**known[i], "shop": shop(shop_id, **shop_changes)} for i in ids if i in known]
        stage_batch(connection, selection, claim, answer, now_s=now)
        claims.give_back(claim)
    stage_shop(connection, selection, shop_id, shop(shop_id, **shop_changes))
    return append_shop_sync(connection, shop_id), asked


def rows(connection, sql, *parameters):
    return [tuple(row) for row in connection.execute(sql, parameters)]
