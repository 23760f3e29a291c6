"""What the API sends, broken in every way: each broken object costs only itself."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from furnisync.catalog import image_queue, listings
from furnisync.catalog.image_queue import Shown
from furnisync.catalog.listings import Batched
from furnisync.catalog.schema import open_catalog
from furnisync.crawl.batch_reader import _image_rows
from furnisync.crawl.list_reader import as_listed
from furnisync.errors import ApiUnavailable
from furnisync.etsy.excerpts import listings_without_images
from furnisync.etsy.models import (
    Image,
    Listing,
    Money,
    TaxonomyNode,
    decode_object,
    decode_page,
    decode_whole_page,
)
from furnisync.etsy.taxonomy import Node, Tree, flatten

FAST = settings(max_examples=150, deadline=None)

GOOD = {
    "listing_id": 1234567890,
    "shop_id": 7,
    "taxonomy_id": 967,
    "state": "active",
    "title": "Chair",
    "creation_timestamp": 1_790_000_000,
    "created_timestamp": 1_780_000_000,
    "last_modified_timestamp": 1_791_000_000,
    "price": {"amount": 12345, "divisor": 100, "currency_code": "EUR"},
    "converted_price": {"amount": 14000, "divisor": 100, "currency_code": "USD"},
    "images": [
        {"listing_image_id": 5, "rank": 1, "url_570xN": "https://i/il_570xN.5_a.jpg"},
        {"listing_image_id": 6, "rank": 2, "url_fullxfull": "https://i/il_fullxfull.6_a.jpg"},
    ],
}
ODD = [
    None, True, False, 0, -1, 1, 2**63 - 1, 2**63, 2**70, -(2**70), 10**400, 1.5, -0.0, 1e300,
    "", "12", "x", "\0", "🪑", [], [1], [None], [[]], {}, {"amount": 2**70, "divisor": 3},
    {"amount": 10**400, "divisor": 1, "currency_code": "USD"},
    {"amount": 1, "divisor": 0, "currency_code": "USD"},
    {"amount": -5, "divisor": 100, "currency_code": "USD"},
    {"amount": "7", "divisor": "2", "currency_code": "USD"},
    {"amount": None, "divisor": None, "currency_code": None},
    [{"listing_image_id": 2**70}], [{"listing_image_id": 9, "rank": 2**70, "url_570xN": "u"}],
    [{"listing_image_id": 9, "rank": None, "url_75x75": "\0"}], [{"url_570xN": 7}],
]  # fmt: skip
FIELDS = sorted({field.name for field in msgspec.structs.fields(Listing)} | {"title"})


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    connection = open_catalog(tmp_path_factory.mktemp("objects") / "catalog.db")
    connection.execute("PRAGMA synchronous = OFF")
    yield connection
    connection.close()


def keep(connection, listing):
    """Do with a listing what a list and a batch do."""
    listings.add_listed(connection, [as_listed(listing)], 1)
    rows = _image_rows(listing, "570xN")
    one = Batched(
        listing.listing_id,
        listing.shop_id,
        listing.taxonomy_id,
        listing.state,
        listing.price_usd,
        listing.created,
        rows,
    )
    listings.record_batch(connection, [one], 1, 2)
    image_queue.add_images(connection, [Shown(listing.listing_id, rows)], "all", 1)
    return rows


def page_of(*objects, count=None):
    return json.dumps({"count": count or len(objects), "results": objects}).encode()


@pytest.mark.parametrize(("field", "odd"), list(itertools.product(FIELDS, ODD)))
def test_any_field_may_be_anything(catalog, field, odd):
    """It becomes None (or, for the id, costs the object); the rest stays, and can be stored."""
    page = decode_page(page_of({**GOOD, field: odd}, GOOD), Listing)
    assert page.items[-1] == decode_object(json.dumps(GOOD).encode(), Listing)
    assert page.sent == 2
    assert len(page.items) + len(page.broken) == 2
    assert not page.broken or field == "listing_id"
    for listing in page.items:
        keep(catalog, listing)
    if len(page.items) == 2:
        for name in FIELDS:
            if name not in (field, "images", "title"):
                assert getattr(page.items[0], name) == getattr(page.items[1], name)


@given(
    st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(ODD)), st.sets(st.sampled_from(FIELDS))
)
@FAST
def test_any_mixture_of_odd_and_absent_fields(catalog, odd, absent):
    one = {name: value for name, value in {**GOOD, **odd}.items() if name not in absent}
    page = decode_page(page_of(one), Listing)
    assert len(page.items) + len(page.broken) == 1
    for listing in page.items:
        assert 1 <= listing.listing_id < 2**63
        price = listing.price_usd
        assert price is None or 0 <= price < 1e19
        keep(catalog, listing)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=15,
)


@given(json_values)
@FAST
def test_any_json_is_a_page_or_no_answer(value):
    with contextlib.suppress(ApiUnavailable):
        page = decode_page(json.dumps(value).encode(), Listing)
        assert page.sent == len(page.items) + len(page.broken)


@given(
    st.lists(
        st.one_of(json_values, st.dictionaries(st.sampled_from(["images", "a", "b"]), json_values))
    ),
    st.sampled_from([(",", ":"), (", ", ": ")]),
    st.sampled_from([None, 1]),
)
@FAST
def test_listings_lose_their_images_and_nothing_else(results, separators, indent):
    """However the answer is written, and whatever its texts hold."""
    body = json.dumps({"results": results}, separators=separators, indent=indent).encode()
    kept = json.loads(listings_without_images(body))
    bare = [
        {name: one[name] for name in one if name != "images"} if isinstance(one, dict) else one
        for one in json.loads(body, parse_constant=lambda _: None)["results"]
    ]
    assert kept == bare


def test_a_text_that_looks_like_images_stays():
    listing = {"title": ',"images":[1]', "images": [{"images": [1], "b": '"images":[2]'}], "c": 1}
    body = json.dumps({"results": [listing]}, separators=(",", ":")).encode()
    assert json.loads(listings_without_images(body)) == [{"title": ',"images":[1]', "c": 1}]


@given(st.binary(max_size=200))
@FAST
def test_any_bytes_are_a_page_or_no_answer(body):
    with pytest.raises(ApiUnavailable, match="malformed"):
        decode_page(body, Listing)


def test_a_number_that_is_none_costs_only_itself():
    """NaN is no JSON, and yet sent: a page that holds it must not be out of reach for ever."""
    body = b'{"count": 1, "x": NaN, "results": [{"listing_id": 1, "shop_id": -Infinity}]}'
    page = decode_page(body, Listing)
    assert [(one.listing_id, one.shop_id) for one in page.items] == [(1, None)]
    assert decode_whole_page(body).results[0]["listing_id"] == 1


@pytest.mark.parametrize("decode", [lambda body: decode_page(body, Listing), decode_whole_page])
@pytest.mark.parametrize("told", ["Exception", {"code": 7}])
def test_an_error_that_comes_with_an_empty_list_is_no_empty_list(decode, told):
    body = json.dumps({"error": told, "count": 0, "results": []}).encode()
    with pytest.raises(ApiUnavailable, match="an error came"):
        decode(body)
    assert decode(b'{"error": null, "count": 0, "results": []}').count == 0


@pytest.mark.parametrize("count", [-3, 2**63, 10**40, True, 2.0, "2", None])
def test_a_count_that_cannot_be_tells_nothing(count):
    body = json.dumps({"count": count, "results": []}).encode()
    assert decode_whole_page(body).count is None


@given(st.integers(0, len(page_of(GOOD)) - 1))
@FAST
def test_half_a_body_is_no_answer(size):
    with pytest.raises(ApiUnavailable, match="malformed"):
        decode_page(page_of(GOOD)[:size], Listing)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"<html>503</html>", "malformed"),
        (b"", "malformed"),
        (b"null", "malformed"),
        (b'{"count": 1}', "results"),
        (b'{"count": 1, "results": null}', "results"),
        (b'{"count": 1, "results": {}}', "results"),
        (b'{"results": ' + b"[" * 100_000, "malformed"),
        (b'{"results": [' + b"[" * 5000 + b"]" * 5000 + b"]}", "malformed"),
    ],
)
def test_what_is_no_answer_is_said_so(body, why):
    with pytest.raises(ApiUnavailable, match=why):
        decode_page(body, Listing)


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (b"5", 5), (b'"5"', 5), (b"5.0", 5), (b"null", None), (b'"many"', None), (b"-1", None),
        (b"5.5", None), (b"true", None), (b"[]", None), (b"1180591620717411303424", None),
    ],
)  # fmt: skip
def test_an_odd_count_is_no_count(count, told):
    page = decode_page(b'{"count": %s, "results": []}' % count, Listing)
    assert page.count == told


@pytest.mark.parametrize("text", [b'"\xff\xfe"', b'"\\ud800"', b'"\\ud800\\udc00"'])
@pytest.mark.parametrize("field", [b"state", b"title"])
def test_text_that_is_none_costs_its_field_only(catalog, field, text):
    body = b'{"results": [{"listing_id": 3, "shop_id": 7, "%s": %s}]}' % (field, text)
    (listing,) = decode_page(body, Listing).items
    assert (listing.listing_id, listing.shop_id) == (3, 7)
    keep(catalog, listing)


def test_images_each_for_itself():
    images = [
        {"listing_image_id": 5, "rank": 9, "url_570xN": "a"},
        7,
        {"rank": 1, "url_570xN": "b"},
        {"listing_image_id": 6, "rank": 2**70, "url_570xN": None, "url_fullxfull": "c"},
        {"listing_image_id": 8, "rank": 1},
        {"listing_image_id": 9, "rank": 1, "url_570xN": {}, "url_75x75": "d"},
    ]
    listing = decode_object(json.dumps({**GOOD, "images": images}).encode(), Listing)
    rows = [(one.image_id, one.rank, one.url) for one in _image_rows(listing, "570xN")]
    assert rows == [(9, 1, "d"), (6, 2, "c"), (5, 9, "a")]


@pytest.mark.parametrize(
    ("prices", "usd"),
    [
        ({"price": Money(1999, 100, "USD")}, 19.99),
        ({"price": Money(1999, 100, "EUR")}, None),
        ({"price": Money(1999, 100, "EUR"), "converted_price": Money(2100, 100, "USD")}, 21.0),
        ({"price": Money(1999, 0, "USD")}, None),
        ({"price": Money(None, 100, "USD")}, None),
        ({}, None),
    ],
)
def test_price_in_dollars(prices, usd):
    assert Listing(1, **prices).price_usd == usd


def test_an_image_needs_its_id_only():
    assert decode_object(b'{"listing_image_id": "5", "new": {}}', Image) == Image(5)
    for body in (b"{}", b"[]", b'{"listing_image_id": null}', b'{"listing_image_id": 0}'):
        with pytest.raises(ValueError):
            decode_object(body, Image)


# -- the taxonomy ---


def test_a_broken_node_costs_itself_and_what_lies_below():
    nodes = {
        "id": 967,
        "name": "Furniture",
        "children": [
            {"id": 968, "children": [{"id": 970, "name": None, "children": None}]},
            {"id": None, "children": [{"id": 5}]},
            {"id": 2**70},
            "no node",
            {"id": 990, "name": {"de": "Wohnen"}, "children": "none"},
        ],
    }
    page = decode_page(page_of(nodes, 7), TaxonomyNode)
    found = flatten(page.items)
    assert found == [
        Node(967, None, "Furniture"),
        Node(968, 967, None),
        Node(970, 968, None),
        Node(990, 967, None),
    ]
    tree = Tree(found)
    assert tree.subtree(967) == {967, 968, 970, 990}
    assert tree.children(967) == [968, 990]
    assert tree.subtree(5) == {5}
    assert 5 not in tree
    assert len(tree) == 4


def test_a_deep_taxonomy_is_read():
    node = {"id": 1, "children": []}
    for number in range(2, 150):
        node = {"id": number, "children": [node]}
    page = decode_page(page_of(node), TaxonomyNode)
    assert len(flatten(page.items)) == 149


@given(st.lists(st.tuples(st.integers(1, 9), st.one_of(st.none(), st.integers(1, 9)))))
@FAST
def test_a_tree_that_bites_its_tail_has_an_end(pairs):
    tree = Tree(Node(number, parent, None) for number, parent in pairs)
    for number in range(1, 10):
        assert number in tree.subtree(number)


AT_ONCE = """
import sys, threading
from furnisync.etsy.models import Image, Listing, decode_object
sys.setswitchinterval(1e-6)
start = threading.Barrier(8)
def read():
    start.wait()
    decode_object(sys.argv[1].encode(), Listing)
    decode_object(b'{"listing_image_id": 5}', Image)
threads = [threading.Thread(target=read) for _ in range(8)]
for one in threads:
    one.start()
for one in threads:
    one.join()
"""


@pytest.mark.processes
def test_threads_that_read_a_model_for_the_first_time_at_once():
    """With types made at first use, most of these processes ended by a segmentation fault."""
    for _ in range(5):
        ended = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", AT_ONCE, json.dumps(GOOD)], check=False
        )
        assert ended.returncode == 0
