"""Encodes a shop like Etsy's API."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from furnisync.sandbox.world.world import Shop

__all__ = ["shop_json"]

_LONG = "We build furniture from local wood since 1987. 🪵 "


def shop_json(shop: Shop, review_figures: tuple[int, float | None]) -> dict[str, Any]:
    """Return the complete shop object; `review_figures` are count and average of the last year."""
    random = Random(shop.shop_id * 13 + 5)
    review_count, review_average = review_figures
    body: dict[str, Any] = {
        "shop_id": shop.shop_id,
        "user_id": shop.user_id,
        "shop_name": shop.name,
        "create_date": shop.created,
        "created_timestamp": shop.created,
        "title": _maybe(random, 0.1, f"{shop.name} | tables &amp; more"),
        "announcement": _maybe(random, 0.4, _LONG * random.randint(1, 6)),
        "currency_code": shop.currency,
        "is_vacation": shop.vacation,
        "vacation_message": "Back in two weeks" if shop.vacation else None,
        "sale_message": _maybe(random, 0.5, "Thank you! ♥"),
        "digital_sale_message": _maybe(random, 0.8, "Your files are ready"),
        "update_date": shop.updated,
        "updated_timestamp": shop.updated,
        "listing_active_count": shop.active_count,
        "digital_listing_count": random.choice((0, 0, 0, 3)),
        "login_name": shop.name.lower(),
        "accepts_custom_requests": random.random() < 0.6,
        "vacation_autoreply": "Away" if shop.vacation else None,
        "url": f"https://www.etsy.com/shop/{shop.name}",
        "image_url_760x100": _maybe(random, 0.7, f"https://i.etsystatic.com/{shop.shop_id}/b.jpg"),
        "num_favorers": shop.favorers,
        "languages": ["en-US"] if random.random() < 0.8 else ["de", "en-US"],
        "icon_url_fullxfull": _maybe(random, 0.2, f"https://i.etsystatic.com/{shop.shop_id}/i.jpg"),
        "is_shop_us_based": shop.country == "US",
        "transaction_sold_count": shop.sold,
        "shipping_from_country_iso": _maybe(random, 0.1, shop.country),
        "shop_location_country_iso": _maybe(random, 0.05, shop.country),
        "review_count": review_count if review_count or random.random() < 0.5 else None,
        "review_average": review_average,
        "some_new_shop_field": [],
    }
    body.update(_policies_json(random, shop.created))
    body.update(shop.overrides)
    if random.random() < 0.02:
        del body["accepts_custom_requests"]
    return body


def _policies_json(random: Random, created: int) -> dict[str, Any]:
    yes = (random.random() < 0.9 for _ in range(9))
    return {
        "policy_welcome": _maybe(random, 0.7, "Welcome"),
        "policy_payment": _maybe(random, 0.7, "Card"),
        "policy_shipping": _maybe(random, 0.7, "Pallet or parcel"),
        "policy_refunds": _maybe(random, 0.7, "14 days"),
        "policy_additional": None if random.random() < 0.9 else "",
        "policy_seller_info": _maybe(random, 0.7, "Oak Ltd."),
        "policy_privacy": _maybe(random, 0.7, "We keep nothing."),
        "policy_update_date": created,
        "policy_has_private_receipt_info": next(yes),
        "has_unstructured_policies": next(yes),
        "is_using_structured_policies": next(yes),
        "has_onboarded_structured_policies": next(yes),
        "include_dispute_form_link": next(yes),
        "is_direct_checkout_onboarded": next(yes),
        "is_etsy_payments_onboarded": next(yes),
        "is_opted_in_to_buyer_promise": next(yes),
        "is_calculated_eligible": next(yes),
    }


def _maybe(random: Random, share_null: float, value: Any) -> Any:
    return None if random.random() < share_null else value
