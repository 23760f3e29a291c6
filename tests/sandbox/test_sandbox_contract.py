"""Every answer, compared with Etsy's published OpenAPI document."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest

_BESIDE = Path(__file__).resolve().parents[3] / "shared" / "etsy" / "openapi-2026-08.json"
_DOCUMENT = Path(os.environ.get("FURNISYNC_OPENAPI", _BESIDE))

pytestmark = pytest.mark.skipif(not _DOCUMENT.is_file(), reason="Etsy's document is not here")


def as_json_schema(node: Any) -> Any:
    """Turn OpenAPI 3.0's `nullable` into JSON Schema."""
    if isinstance(node, list):
        return [as_json_schema(part) for part in node]
    if not isinstance(node, dict):
        return node
    plain = {k: as_json_schema(v) for k, v in node.items() if k not in ("nullable", "format")}
    return {"anyOf": [plain, {"type": "null"}]} if node.get("nullable") is True else plain


class Document:
    def __init__(self) -> None:
        document = json.loads(_DOCUMENT.read_text(encoding="utf-8"))
        self.paths = document["paths"]
        self.schemas = as_json_schema(document["components"]["schemas"])
        self.validators: dict[str, Any] = {}

    def check(self, name: str, body: Any) -> None:
        if name not in self.validators:
            root = {
                "$ref": f"#/components/schemas/{name}",
                "components": {"schemas": self.schemas},
            }
            self.validators[name] = jsonschema.Draft202012Validator(root)
        self.validators[name].validate(body)

    def nullable(self, name: str) -> set[str]:
        fields = self.schemas[name]["properties"]
        return {f for f, schema in fields.items() if {"type": "null"} in schema.get("anyOf", [])}


@pytest.fixture(scope="module")
def document():
    return Document()


@pytest.fixture(scope="module")
def furniture(steady):
    return steady.pages("listings/active?taxonomy_id=967")


def test_every_call_of_the_document_answers_by_its_schema(steady, document, furniture):
    listing, shop = furniture[0]["listing_id"], furniture[0]["shop_id"]
    for path, methods in document.paths.items():
        parts = {"listing_id": listing, "shop_id": shop}
        query = f"?listing_ids={listing}" if path.endswith("batch") else ""
        url = path.removeprefix("/v3/application/").format(**parts) + query
        reply = steady.api(url)
        assert reply.status == 200, url
        schema = methods["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        document.check(schema["$ref"].rpartition("/")[2], reply.json)


def test_lists_of_all_listings(steady, document, furniture):
    document.check("ShopListings", {"count": len(furniture), "results": furniture})
    others = steady.pages("listings/active?currency=USD")
    document.check("ShopListings", {"count": len(others), "results": others})


def test_batch_with_everything_included(steady, document):
    ids = [line["listing_id"] for line in steady.sandbox.truth_listings()[::3]]
    includes = "&includes=Images,Shop,User,Translations,Videos,Personalization,BuyerPrice"
    found = steady.batch(ids, includes + "&currency=EUR")
    document.check("ShopListingsWithAssociations", {"count": len(found), "results": found})


def test_reviews_of_all_shops(steady, document, furniture):
    for shop_id in {listing["shop_id"] for listing in furniture}:
        reply = steady.api(f"shops/{shop_id}/reviews?limit=100").json
        document.check("TransactionReviews", reply)


@pytest.mark.parametrize(
    "path",
    ["listings/active?limit=101", "shops/1", "listings/1", "nothing/here", "shops/zero/reviews"],
)
def test_errors(steady, document, path):
    reply = steady.api(path)
    assert reply.status in (400, 404)
    document.check("ErrorSchema", reply.json)


def test_null_stands_in_every_nullable_field_somewhere(steady, document, furniture):
    found = steady.batch([one["listing_id"] for one in furniture], "&includes=Images,Shop")
    found += steady.pages("listings/active")
    images = [image for one in found for image in one.get("images", [])]
    shops = [line["api"] for line in steady.sandbox.truth_shops()]
    never_sent = {"shipping_profile", "inventory", "user", "shop", "translations"}
    never_sent |= {"personalization", "buyer_price", "converted_price", "videos"}
    for name, bodies in (("ShopListing", found), ("ListingImage", images), ("Shop", shops)):
        null = {field for body in bodies for field, value in body.items() if value is None}
        assert document.nullable(name) - never_sent <= null, name
