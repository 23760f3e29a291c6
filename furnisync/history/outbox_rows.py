"""What image sync's answers of batch hold becomes rows, without calls of our own.

Each listing gets a row with the time of the answer. A shop's sync then leaves out the listings
with rows that are fresh, and takes the shop object that came with them.
"""

import sqlite3
from collections.abc import Sequence
from typing import Final

from furnisync.clock import DAY_S, WRONG_S
from furnisync.history.arrivals import RowsFor, as_rows, shop_values
from furnisync.history.fields.selection import Selection
from furnisync.history.fields.values import Object, as_id
from furnisync.history.purge import purged_ids
from furnisync.history.snapshots import Appended, append_page
from furnisync.outbox import Answer, save_cursor

SHOPS_KEPT_S: Final = 14 * DAY_S


def take_answer(
    connection: sqlite3.Connection,
    selection: Selection,
    answer: Answer,
    listings: Sequence[Object],
    *,
    now_s: float,
    static_days: float,
) -> int:
    """Append the rows of an answer that are news, inside a transaction.

    Args:
        connection: of the history.
        selection: the stored fields.
        answer: of image sync's outbox.
        listings: its objects that came with their fields; the others' shops ask for them.
        now_s: unix time; an answer from the future is skipped.
        static_days: age beyond which a static row is written again.

    Returns:
        how many listings got a row.
    """
    save_cursor(connection, answer.cursor)
    if answer.at > now_s + WRONG_S:
        return 0
    found = {listing_id: one for one in listings if (listing_id := as_id(one.get("listing_id")))}
    purged = purged_ids(connection, "listing")
    arrived = [(key, one) for key, one in found.items() if _has_shop(one) and key not in purged]
    rows_for = RowsFor(0, answer.at, answer.at - int(static_days * DAY_S))
    appended = Appended()
    append_page(connection, answer.at, as_rows(connection, selection, rows_for, arrived), appended)
    _keep_shops(connection, selection, [one for _, one in arrived], answer.at)
    return appended.listing_dynamic


def _has_shop(listing: Object) -> bool:
    return as_id(listing.get("shop_id")) is not None


def _keep_shops(
    connection: sqlite3.Connection, selection: Selection, listings: Sequence[Object], at: int
) -> None:
    """Keep the newest object of each shop until its sync takes it."""
    shops = {}
    for one in listings:
        shop = one.get("shop")
        if isinstance(shop, dict) and as_id(shop.get("shop_id")) == as_id(one.get("shop_id")):
            shops[as_id(one.get("shop_id"))] = shop
    connection.executemany(
        "INSERT INTO arrived_shops (shop_id, at, shop, listings_active, signals)"
        " VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET at = excluded.at,"
        " shop = excluded.shop, listings_active = excluded.listings_active,"
        " signals = excluded.signals WHERE excluded.at > at",
        [(shop_id, at, *shop_values(selection, shop)) for shop_id, shop in shops.items()],
    )
    connection.execute("DELETE FROM arrived_shops WHERE at < ?", (at - SHOPS_KEPT_S,))
