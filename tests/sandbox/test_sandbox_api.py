"""The API's rules: key, paging, sorting, prices, what which call carries."""

from __future__ import annotations

from collections import Counter
from email.utils import parsedate_to_datetime

import pytest


@pytest.fixture(scope="module")
def truth(steady):
    return steady.sandbox.truth_listings()


def findable(truth, **wanted):
    lines = [line for line in truth if line["findable"]]
    return [line for line in lines if all(line[k] == v for k, v in wanted.items())]


def ids_of(listings):
    return [listing["listing_id"] for listing in listings]


# -- key -------------------------------------------------------------------------------------


def test_key_alone_is_refused_in_etsys_words(steady):
    reply = steady.api("openapi-ping", key=steady.sandbox.key)
    assert reply.status == 403
    assert reply.json == {"error": "Shared secret is required in x-api-key header."}


@pytest.mark.parametrize(("key", "status"), [("", 401), ("no:no", 403), ("{key}:no", 403)])
def test_wrong_keys(steady, key, status):
    reply = steady.api("openapi-ping", key=key.format(key=steady.sandbox.key))
    assert reply.status == status
    assert reply.json["error"]


# -- parameters ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=ten",
        "offset=-1",
        "offset=12001",
        "sort_on=name",
        "sort_order=sideways",
        "taxonomy_id=chairs",
        "min_price=cheap",
        "max_price=nan",
        "currency=SHELLS",
    ],
)
def test_bad_parameters_get_400(steady, query):
    reply = steady.api(f"listings/active?{query}")
    assert reply.status == 400
    assert reply.json["error"]


@pytest.mark.parametrize("query", ["listing_ids=", "", "listing_ids=1,x", "includes=Everything"])
def test_bad_batches_get_400(steady, query):
    assert steady.api(f"listings/batch?{query}").status == 400


def test_batch_takes_100_ids_and_no_more(steady):
    assert steady.api("listings/batch?listing_ids=" + ",".join(["7"] * 100)).status == 200
    assert steady.api("listings/batch?listing_ids=" + ",".join(["7"] * 101)).status == 400


def test_offset_cap_itself_is_served(steady):
    reply = steady.api("listings/active?offset=12000")
    assert reply.status == 200
    assert reply.json["results"] == []


def test_unknown_parameters_and_includes_change_nothing_on_lists(steady):
    plain = steady.api("listings/active?limit=5").json
    assert steady.api("listings/active?limit=5&includes=Images,Shop&what=ever").json == plain


def test_unknown_shop_is_404(steady):
    for call in ("shops/1", "shops/1/listings/active", "shops/1/reviews"):
        assert steady.api(call).status == 404


# -- lists -----------------------------------------------------------------------------------


def test_paging_finds_everything_once(steady, truth):
    found = ids_of(steady.pages("listings/active?taxonomy_id=967"))
    assert len(found) == 600
    assert sorted(found) == sorted(ids_of(findable(truth, is_furniture=True)))
    everything = ids_of(steady.pages("listings/active"))
    assert sorted(everything) == sorted(ids_of(findable(truth)))


def test_default_limit_is_25(steady):
    assert len(steady.api("listings/active").json["results"]) == 25


def test_plain_lists_lack_what_only_batch_carries(steady):
    heavy = {"views", "skus", "production_partners", "images", "shop", "converted_price"}
    for listing in steady.pages("listings/active"):
        assert not heavy & listing.keys()


@pytest.mark.parametrize(
    ("sort_on", "field"),
    [("created", "created"), ("updated", "updated"), ("price", "price_usd")],
)
def test_sorting_both_ways(steady, truth, sort_on, field):
    key = {line["listing_id"]: (line[field], line["listing_id"]) for line in truth}
    up = ids_of(steady.pages(f"listings/active?sort_on={sort_on}&sort_order=asc"))
    down = ids_of(steady.pages(f"listings/active?sort_on={sort_on}&sort_order=desc"))
    assert up == sorted(up, key=key.__getitem__)
    assert down == up[::-1]
    assert len({key[i][0] for i in up}) < len(up) or sort_on == "updated"


def test_score_order_is_stable(steady):
    first = ids_of(steady.pages("listings/active?sort_on=score"))
    assert first == ids_of(steady.pages("listings/active?sort_on=score"))


def test_price_filter_is_inclusive_and_in_dollars(steady, truth):
    lines = findable(truth)
    heavy, _ = Counter(ln["price_usd"] for ln in lines if ln["currency"] == "USD").most_common(1)[0]
    found = ids_of(steady.pages(f"listings/active?min_price={heavy}&max_price={heavy}"))
    wanted = [line["listing_id"] for line in lines if line["price_usd"] == heavy]
    assert len(wanted) > 3
    assert sorted(found) == sorted(wanted)
    low, high = 40.0, 90.0
    found = ids_of(steady.pages(f"listings/active?min_price={low}&max_price={high}"))
    wanted = [line["listing_id"] for line in lines if low <= line["price_usd"] <= high]
    assert sorted(found) == sorted(wanted)
    assert {line["currency"] for line in lines} >= {"USD", "GBP", "EUR"}


def test_converted_price(steady, truth):
    usd = {line["listing_id"]: line["price_usd"] for line in truth}
    for listing in steady.pages("listings/active?currency=USD"):
        converted = listing["converted_price"]
        assert converted["currency_code"] == "USD"
        assert converted["amount"] == round(usd[listing["listing_id"]] * 100)


def test_taxonomy_filter_takes_the_subtree(steady, truth):
    roots = steady.api("seller-taxonomy/nodes").json["results"]
    nodes = {}
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        nodes[node["id"]] = node
        waiting += node["children"]
    lines = findable(truth)
    for node_id in (967, 989, 993, 12371, 967):
        below = {i for i, n in nodes.items() if node_id in n["full_path_taxonomy_ids"]}
        wanted = [line["listing_id"] for line in lines if line["taxonomy_id"] in below]
        found = ids_of(steady.pages(f"listings/active?taxonomy_id={node_id}"))
        assert sorted(found) == sorted(wanted)
    inner = {i for i, n in nodes.items() if n["children"]}
    assert any(line["taxonomy_id"] in inner for line in lines)


def test_keywords_match_titles(steady):
    found = steady.pages("listings/active?keywords=coffee%20table")
    assert found
    for listing in found:
        title = listing["title"].casefold()
        assert "coffee" in title
        assert "table" in title


# -- batch, shops, reviews -------------------------------------------------------------------


def test_batch_tells_states_and_leaves_out_what_is_gone(steady, truth):
    found = {one["listing_id"]: one for one in steady.batch([*ids_of(truth), 1])}
    assert sorted(found) == sorted(line["listing_id"] for line in truth if line["visible"])
    states = {line["listing_id"]: line["state"] for line in truth}
    assert all(one["state"] == states[i] for i, one in found.items())
    assert {one["state"] for one in found.values()} == {
        "active",
        "sold_out",
        "expired",
        "inactive",
    }
    assert {"removed", "draft"} <= set(states.values())


def test_batch_carries_views_always_and_images_and_shop_when_included(steady, truth):
    some = ids_of(findable(truth))[:50]
    for one in steady.batch(some):
        assert {"views", "skus", "production_partners"} <= one.keys()
        assert not {"images", "shop"} & one.keys()
    for one in steady.batch(some, "&includes=Images&includes=Shop"):
        assert one["shop"]["shop_id"] == one["shop_id"]
        assert [image["rank"] for image in one["images"]] == list(range(1, len(one["images"]) + 1))
        reply = steady.api(f"shops/{one['shop_id']}")
        assert reply.json == one["shop"]


def test_get_listing_and_images_agree_with_batch(steady, truth):
    listing_id = next(ln["listing_id"] for ln in findable(truth) if len(ln["image_ids"]) > 1)
    one = steady.batch([listing_id], "&includes=Images")[0]
    assert steady.api(f"listings/{listing_id}?includes=Images").json == one
    assert steady.api(f"listings/{listing_id}/images").json["results"] == one["images"]


def test_hidden_shops_list_nothing_though_they_sell(steady, truth):
    shops = steady.sandbox.truth_shops()
    hidden = [shop for shop in shops if not shop["searchable"]]
    assert hidden
    for shop in hidden:
        assert shop["api"]["listing_active_count"] > 0
        reply = steady.api(f"shops/{shop['shop_id']}/listings/active").json
        assert reply == {"count": 0, "results": []}
        theirs = [line["listing_id"] for line in truth if line["shop_id"] == shop["shop_id"]]
        assert {one["state"] for one in steady.batch(theirs)} == {"active"}


def test_odd_shops_are_there(steady, truth):
    shops = steady.sandbox.truth_shops()
    assert any(shop["is_vacation"] and shop["api"]["is_vacation"] for shop in shops)
    assert any(shop["listings"] == 0 for shop in shops)
    gone = next(shop for shop in shops if shop["gone"])
    assert steady.api(f"shops/{gone['shop_id']}").status == 404
    furnished = {line["shop_id"] for line in truth if line["is_furniture"]}
    assert any(shop["active"] and shop["shop_id"] not in furnished for shop in shops)


def test_shop_lists_are_exactly_the_shops_listings(steady, truth):
    for shop in steady.sandbox.truth_shops()[:5]:
        found = ids_of(steady.pages(f"shops/{shop['shop_id']}/listings/active"))
        assert sorted(found) == sorted(ids_of(findable(truth, shop_id=shop["shop_id"])))
        assert shop["api"]["listing_active_count"] == len(found)


def test_reviews_newest_first_within_a_span(bent):
    shop = max(bent.sandbox.truth_shops(), key=lambda s: s["reviews"])
    truth = bent.sandbox.truth_reviews(shop["shop_id"])
    assert len(truth) == 500
    found = bent.pages(f"shops/{shop['shop_id']}/reviews")
    stamps = [review["create_timestamp"] for review in found]
    assert stamps == sorted(stamps, reverse=True)
    assert stamps == [review["create_timestamp"] for review in truth][::-1]
    assert len(set(stamps)) < len(stamps)
    low, high = stamps[300], stamps[100]
    span = bent.pages(f"shops/{shop['shop_id']}/reviews?min_created={low}&max_created={high}")
    assert [r["create_timestamp"] for r in span] == [s for s in stamps if low <= s <= high]
    assert bent.api(f"shops/{shop['shop_id']}/reviews?offset=12001").status == 400
    assert bent.api(f"shops/{shop['shop_id']}/reviews?min_created=5").status == 400


def test_reviews_are_as_odd_as_real_ones(bent):
    shop = max(bent.sandbox.truth_shops(), key=lambda s: s["reviews"])
    found = bent.pages(f"shops/{shop['shop_id']}/reviews")
    assert any("transaction_id" not in review for review in found)
    assert any("buyer_user_id" not in review for review in found)
    assert any("buyer_user_id" in review and review["buyer_user_id"] is None for review in found)
    texts = [review["review"] for review in found]
    assert "" in texts
    assert any("\0" in text for text in texts)
    assert any("😍" in text for text in texts)
    ids = [review["transaction_id"] for review in found if "transaction_id" in review]
    assert len(set(ids)) == len(ids)
    assert max(ids) > 2**32


def test_the_date_header_follows_the_sandbox_s_clock(bent):
    for moved_s in (0, 10 * 365 * 86_400):
        now = bent.sandbox.move_clock(moved_s)
        told = parsedate_to_datetime(bent.api("openapi-ping").headers["date"]).timestamp()
        assert abs(told - now) < 60
