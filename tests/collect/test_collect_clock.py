"""Time passes: first sync, nothing due, 15 days later, 7 months later; the rows are the truth's."""

from __future__ import annotations

from support.collect_world import (
    LIST_CALL,
    REVIEW_CALL,
    Expected,
    Home,
    Truth,
    calls_of,
    check_one_time_a_shop,
    check_truth,
    known_furniture,
    later,
    no_calls,
    read_reviews,
    seed_catalog,
    true_reviews,
)


def test_first_sync_then_not_one_call(home, steady):
    home.sync()
    truth = Truth(steady)
    check_truth(home, truth, known=known_furniture(truth))
    check_one_time_a_shop(home)
    gone = {shop_id for shop_id, shop in truth.shops.items() if shop["gone"]}
    assert set(home.rows("SELECT shop_id FROM sync_state WHERE status = 'gone'")) == {
        (shop_id,) for shop_id in gone
    }
    with no_calls(steady):
        home.sync()
    check_truth(home, truth, known=known_furniture(truth))


class Life:
    """A home and its sandbox over the months, with the history that the rules want."""

    def __init__(self, home, sandbox):
        self.home, self.sandbox = home, sandbox
        self.expected = Expected(known=known_furniture(Truth(sandbox)))
        self.reviews = set()
        self.gone = set()

    def sync(self, *, retry_gone: bool = False) -> Truth:
        self.sandbox.reset_asked()
        self.home.sync()
        truth = Truth(self.sandbox)
        shops = [i for i in truth.shops if retry_gone or i not in self.gone]
        self.expected.sync(self.home, truth, shops, now_s=self.home.now())
        self.gone = {i for i, shop in truth.shops.items() if shop["gone"]} | (
            set() if retry_gone else self.gone
        )
        self.reviews |= set(true_reviews(truth, set(truth.shops) - self.gone))
        self.check()
        return truth

    def check(self) -> None:
        self.expected.check(self.home)
        check_one_time_a_shop(self.home)
        assert read_reviews(self.home) == sorted(self.reviews, key=repr)

    def later(self, days: float) -> None:
        later(self.home, self.sandbox, days)


def test_the_months_of_a_home(bent_home, bent):
    life = Life(bent_home, bent)
    truth = life.sync()
    plain = [i for i, s in truth.shops.items() if s["findable"] and s["active"] >= 5]
    closing, resting, hiding, lively = plain[:4]

    def some(shop_id, count):
        rows = [r for r in truth.of_shop(shop_id) if r["findable"]]
        return [r["listing_id"] for r in rows[:count]]

    sold, expired, removed, silent, edited = some(lively, 5)
    bent.churn(
        {"op": "create", "shop_id": lively, "n": 3},
        {"op": "create", "shop_id": lively, "n": 1, "amount": 2_750_000_000},
        {"op": "end", "listing_ids": [sold], "state": "sold_out"},
        {"op": "end", "listing_ids": [expired], "state": "expired"},
        {"op": "end", "listing_ids": [removed], "state": "removed"},
        {"op": "end", "listing_ids": [silent], "state": "inactive"},
        {"op": "reprice", "listing_ids": some(resting, 2)},
        {"op": "edit", "listing_ids": [edited], "fields": ODD_VALUES},
        {"op": "add_reviews", "shop_id": lively, "n": 4},
        {"op": "add_reviews", "shop_id": resting, "n": 150},
        {"op": "shop", "shop_id": closing, "fields": {"gone": True}},
        {"op": "shop", "shop_id": resting, "fields": {"is_vacation": True}},
        {"op": "shop", "shop_id": hiding, "fields": {"searchable": False, "num_favorers": 0}},
        any=30,
    )
    life.later(13)
    with no_calls(bent):
        bent_home.sync()
    life.check()

    life.later(2)
    truth = life.sync()
    assert calls_of(bent)[LIST_CALL] == len(truth.shops) - 1  # the one that was gone waits
    states = dict(
        bent_home.rows(
            "SELECT listing_id, state FROM listings_latest WHERE listing_id IN (?, ?, ?, ?)",
            sold,
            expired,
            removed,
            silent,
        )
    )
    expected = {sold: "sold_out", expired: "expired", removed: "gone", silent: "inactive"}
    assert states == expected
    with no_calls(bent):
        bent_home.sync()

    bent.churn(
        {"op": "bring_back", "listing_ids": [sold, removed]},
        {"op": "shop", "shop_id": resting, "fields": {"is_vacation": False}},
        {"op": "add_reviews", "shop_id": lively, "n": 1},
        any=20,
    )
    life.later(15)
    life.sync()

    bent.churn(
        {"op": "bring_back", "listing_ids": [silent]},
        {"op": "shop", "shop_id": closing, "fields": {"gone": False}},
        {"op": "shop", "shop_id": hiding, "fields": {"searchable": True}},
        {"op": "add_reviews", "shop_id": closing, "n": 2},
        any=40,
    )
    life.later(7 * 30.5)
    life.sync(retry_gone=True)
    with no_calls(bent):
        bent_home.sync()
    life.check()


ODD_VALUES = {
    "quantity": 0,
    "views": 0,
    "num_favorers": 5_000_000_000,
    "title": "Stuhl \U0001fa91 \u201eErnst\u201c \u0000 null inside",
    "is_customizable": False,
    "is_personalizable": None,
    "should_auto_renew": False,
    "tags": [],
    "materials": None,
    "processing_min": 0,
    "processing_max": None,
    "item_weight": 0.1,
    "item_length": 3,
    "item_width": 0,
    "item_height": None,
    "price": {"amount": 990_000_000_000, "divisor": 1, "currency_code": "JPY"},
}


def test_values_come_back_as_what_they_were(bent_home, bent):
    listing_id = next(r["listing_id"] for r in bent.truth_listings() if r["findable"])
    bent.churn({"op": "edit", "listing_ids": [listing_id], "fields": ODD_VALUES})
    bent_home.sync()
    row = bent_home.rows(
        "SELECT quantity, views, num_favorers, title, is_customizable, is_personalizable, tags,"
        " materials, processing_min, processing_max, item_weight, item_length, item_width,"
        " item_height, price_amount, price_divisor, price_currency_code"
        " FROM listings_latest WHERE listing_id = ?",
        listing_id,
    )[0]
    assert row == (
        0, 0, 5_000_000_000, ODD_VALUES["title"], 0, None, "[]", None, 0, None, 0.1, 3.0, 0.0,
        None, 990_000_000_000, 1, "JPY",
    )  # fmt: skip
    assert [type(value) for value in row[10:13]] == [float] * 3


def test_cadences_are_settings(tmp_path, bent):
    home = Home(tmp_path / "home", bent)
    seed_catalog(home, bent)
    home.configure(data={"sync_days": 2.0, "static_days": 5.0, "reviews_days": 1000.0})
    home.sync()
    home.later(3)
    bent.reset_asked()
    home.sync()
    asked = calls_of(bent)
    alive = sum(not shop["gone"] for shop in bent.truth_shops())
    assert asked[LIST_CALL] == alive
    assert REVIEW_CALL not in asked
    assert (home.counts()["shops"], home.counts()["shops_dynamic"]) == (alive, 2 * alive)
    home.later(3)
    home.sync()
    assert (home.counts()["shops"], home.counts()["shops_dynamic"]) == (2 * alive, 3 * alive)
