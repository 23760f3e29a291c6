"""A small history with a known past."""

from furnisync.history.fields.selection import Selection
from furnisync.history.rows import insert_rows
from furnisync.history.schema import open_history

DAY = 86_400
T0 = 1_780_000_000


def make_history(path):
    """Listing 1: three syncs and two static rows; 2: gone at the second; 3: from the third on."""
    history = open_history(path, Selection.of(listings=None))
    static = ("title", "tags", "is_customizable", "item_weight", "taxonomy_id")
    dynamic = ("state", "views", "price_amount", "price_divisor", "price_currency_code")
    insert_rows(
        history,
        "listings",
        static,
        [
            (1, T0, 70, "Oak table", '["oak","table"]', 1, 12.5, 12371),
            (2, T0, 70, "Elm desk", "[]", 0, None, 1001),
            (1, T0 + 20 * DAY, 70, "Oak table, big", '["oak"]', None, 13.0, 12371),
            (3, T0 + 20 * DAY, 71, "Bench 🪑", None, 0, 2.0, 982),
        ],
    )
    insert_rows(
        history,
        "listings_dynamic",
        dynamic,
        [
            (1, T0, "active", None, 12500, 100, "USD"),
            (2, T0, "active", 5, 900, 1, "JPY"),
            (1, T0 + 10 * DAY, "active", 0, 12500, 100, "USD"),
            (2, T0 + 10 * DAY, "gone", None, None, None, None),
            (1, T0 + 20 * DAY, "active", None, 11000, 100, "USD"),
            (3, T0 + 20 * DAY, "active", 8_000_000_000, 500, 100, "EUR"),
        ],
    )
    insert_rows(history, "shops", ("url", "is_shop_us_based"), [(70, T0, "https://a", 1)])
    insert_rows(
        history,
        "shops_dynamic",
        ("num_favorers", "review_average"),
        [(70, T0, 5, None), (70, T0 + 10 * DAY, None, 4.5)],
    )
    history.close()
    return path
