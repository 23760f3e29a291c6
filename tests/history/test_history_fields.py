import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furnisync.errors import ConfigError
from furnisync.history.fields.definitions import LISTING_FIELDS, REVIEW_FIELDS, SHOP_FIELDS, Field
from furnisync.history.fields.selection import Selection
from furnisync.history.fields.values import Converter, Oddity


def convert(kind, value, name="field", twin=None):
    oddities = []
    values = Converter([Field(name, kind, twin=twin)]).values({name: value}, oddities)
    return values if kind == "money" else values[0], oddities


@pytest.mark.parametrize(
    ("kind", "value", "stored"),
    [
        ("int", 0, 0),
        ("int", 8_000_000_000, 8_000_000_000),
        ("int", -(2**63), -(2**63)),
        ("int", 3.0, 3),
        ("int", "42", 42),
        ("int", "-7", -7),
        ("bool", False, 0),
        ("bool", True, 1),
        ("bool", 1, 1),
        ("bool", "false", 0),
        ("float", 0, 0.0),
        ("float", 4.75, 4.75),
        ("float", "12.5", 12.5),
        ("text", "", ""),
        ("text", "a\x00b", "a\x00b"),
        ("text", "schön 🪑", "schön 🪑"),
        ("text", "x" * 3_000_000, "x" * 3_000_000),
        ("json", [], "[]"),
        ("json", ["é", 1, None], '["é",1,null]'),
        ("json", [{"production_partner_id": 2**70}], f'[{{"production_partner_id":{2**70}}}]'),
        ("money", {"amount": 5, "divisor": 1, "currency_code": "JPY"}, [5, 1, "JPY"]),
        ("money", {"amount": 0, "divisor": 100, "currency_code": "USD"}, [0, 100, "USD"]),
        ("money", {"amount": 2**40, "divisor": 100}, [2**40, 100, None]),
        ("money", None, [None, None, None]),
    ],
)
def test_fitting_values_are_stored_without_a_word(kind, value, stored):
    found, oddities = convert(kind, value)
    assert found == stored
    assert [type(found)] == [type(stored)]
    assert oddities == []


@pytest.mark.parametrize(
    ("kind", "value", "stored"),
    [
        ("int", 1.5, None),
        ("int", 2**63, None),
        ("int", True, None),
        ("int", "07", None),
        ("int", "²", None),
        ("int", [1], None),
        ("int", float("inf"), None),
        ("bool", 2, None),
        ("bool", "yes", None),
        ("float", True, None),
        ("float", "many", None),
        ("float", math.nan, None),
        ("float", "1e999", None),
        ("text", 5, "5"),
        ("text", ["a"], '["a"]'),
        ("text", "a\ud83e b", "a\ufffd b"),
        ("json", "oak", '"oak"'),
        ("json", ["\ud83e"], '["\\ud83e"]'),
        ("money", 12.5, [125, 10, None]),
        ("money", "19.99", [1999, 100, None]),
        ("money", {"amount": 12.5, "divisor": 100, "currency_code": "EUR"}, [125, 1000, "EUR"]),
        ("money", "free", [None, 1, None]),
        ("money", [], [None, 1, None]),
        ("money", {"amount": 1e300, "divisor": 1, "currency_code": "USD"}, [None, None, "USD"]),
    ],
)
def test_what_does_not_fit_is_kept_as_an_oddity(kind, value, stored):
    if kind == "json" and value == ["\ud83e"]:  # escaped, so nothing is lost and nothing is odd
        assert convert(kind, value) == ('["\\ud83e"]', [])
        return
    found, oddities = convert(kind, value)
    assert found == stored
    assert [odd.field for odd in oddities] == ["field"]
    oddities[0].value.encode("ascii")
    if not (isinstance(value, float) and math.isnan(value)):
        assert json.loads(oddities[0].value) == value


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(["int", "bool", "float", "text", "json", "money"]), anything)
def test_no_value_stops_a_run_and_none_is_lost(kind, value):
    found, oddities = convert(kind, value)
    for stored in found if kind == "money" else [found]:
        assert stored is None or type(stored) in (int, float, str)
        if type(stored) is int:
            assert -(2**63) <= stored < 2**63
        if type(stored) is str:
            stored.encode()
    if value is not None and found is None:
        assert oddities


def test_twins_stand_in_for_each_other():
    converter = Converter(field for field in SHOP_FIELDS if field.name == "create_date")
    assert converter.values({"created_timestamp": 5}, []) == [5]
    assert converter.values({"create_date": None, "created_timestamp": 5}, []) == [5]
    assert converter.values({"create_date": 4, "created_timestamp": 5}, []) == [4]
    assert converter.values({}, []) == [None]


def test_the_documents_fields_are_all_there():
    assert len(SHOP_FIELDS) == 47
    assert len(LISTING_FIELDS) == 52
    assert len(REVIEW_FIELDS) == 12
    selection = Selection.of()
    assert [field.name for field in selection.shops] == [
        "shop_id", "create_date", "update_date", "listing_active_count",
        "accepts_custom_requests", "url", "num_favorers", "is_shop_us_based",
        "transaction_sold_count", "shipping_from_country_iso", "shop_location_country_iso",
        "review_average", "review_count",
    ]  # fmt: skip
    assert len(selection.listings) == 31
    assert len(selection.reviews) == 8
    assert selection.listing_dynamic.columns == (
        "state", "ending_timestamp", "quantity", "num_favorers",
        "price_amount", "price_divisor", "price_currency_code", "views",
    )  # fmt: skip
    assert selection.shop_dynamic.columns == (
        "update_date", "listing_active_count", "num_favorers",
        "transaction_sold_count", "review_average", "review_count",
    )  # fmt: skip


def test_unknown_names_are_refused_and_needed_ones_always_there():
    with pytest.raises(ConfigError, match="colour"):
        Selection.of(listings=["title", "colour"])
    names = [field.name for field in Selection.of(listings=["views"]).listings]
    assert names == ["listing_id", "shop_id", "state", "views"]
    assert Oddity("a", "1") == Oddity("a", "1")
