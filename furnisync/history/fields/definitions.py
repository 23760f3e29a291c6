"""Every field of Etsy's API for shops, listings and reviews."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

ColumnType = Literal["int", "bool", "float", "text", "json", "money"]

SQL_TYPES: Final[Mapping[ColumnType, str]] = {
    "int": "INTEGER",
    "bool": "INTEGER",
    "float": "REAL",
    "text": "TEXT",
    "json": "TEXT",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an API object.

    Attributes:
        name: in the API and in the settings.
        kind: the type of its values.
        selected: stored by default.
        dynamic: changes from sync to sync, so it is in the `_dynamic` table.
        twin: another name under which the API sends the same value.
        always: stored whatever the settings say, because a rule needs it.
    """

    name: str
    kind: ColumnType
    selected: bool = False
    dynamic: bool = False
    twin: str | None = None
    always: bool = False

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """Names and SQL types of its columns."""
        if self.kind == "money":
            return (
                (f"{self.name}_amount", "INTEGER"),
                (f"{self.name}_divisor", "INTEGER"),
                (f"{self.name}_currency_code", "TEXT"),
            )
        return ((self.name, SQL_TYPES[self.kind]),)


_KINDS: Final[Mapping[str, ColumnType]] = {
    "i": "int", "b": "bool", "f": "float", "t": "text", "j": "json", "m": "money",
}  # fmt: skip


def _fields(table: str, twins: Mapping[str, str]) -> tuple[Field, ...]:
    """Read a table below: `name kind flags`, the flags s(elected), d(ynamic), a(lways)."""
    found = []
    for line in table.split("\n"):
        name, kind, flags = (*line.split(), "")[:3]
        found.append(
            Field(
                name,
                _KINDS[kind],
                selected="s" in flags or "a" in flags,
                dynamic="d" in flags,
                twin=twins.get(name),
                always="a" in flags,
            )
        )
    return tuple(found)


_TIMES: Final = {
    "create_date": "created_timestamp",
    "created_timestamp": "create_date",
    "update_date": "updated_timestamp",
    "updated_timestamp": "update_date",
}

SHOP_FIELDS: Final = _fields(
    """shop_id i a
shop_name t
user_id i
create_date i s
created_timestamp i
title t
announcement t
currency_code t
is_vacation b
vacation_message t
sale_message t
digital_sale_message t
update_date i sd
updated_timestamp i d
listing_active_count i sd
digital_listing_count i d
login_name t
accepts_custom_requests b s
vacation_autoreply t
url t s
image_url_760x100 t
num_favorers i sd
languages j
icon_url_fullxfull t
is_using_structured_policies b
has_onboarded_structured_policies b
include_dispute_form_link b
is_direct_checkout_onboarded b
is_etsy_payments_onboarded b
is_opted_in_to_buyer_promise b
is_calculated_eligible b
is_shop_us_based b s
transaction_sold_count i sd
shipping_from_country_iso t s
shop_location_country_iso t s
policy_welcome t
policy_payment t
policy_shipping t
policy_refunds t
policy_additional t
policy_seller_info t
policy_update_date i
policy_has_private_receipt_info b
has_unstructured_policies b
policy_privacy t
review_average f sd
review_count i sd""",
    _TIMES,
)
"""Shops: all available fields in the order of the user's document."""

LISTING_FIELDS: Final = _fields(
    """listing_id i a
user_id i
shop_id i a
title t s
description t s
state t ad
creation_timestamp i s
created_timestamp i
ending_timestamp i sd
original_creation_timestamp i
last_modified_timestamp i d
updated_timestamp i d
state_timestamp i d
quantity i sd
shop_section_id i
featured_rank i
url t s
num_favorers i sd
non_taxable b
is_taxable b
is_customizable b s
is_personalizable b s
personalization_is_required b
personalization_char_count_max i
personalization_instructions t
listing_type t s
tags j s
materials j s
shipping_profile_id i
return_policy_id i
processing_min i s
processing_max i s
who_made t s
when_made t s
is_supply b
item_weight f s
item_weight_unit t s
item_length f s
item_width f s
item_height f s
item_dimensions_unit t s
is_private b
style j
file_data t
has_variations b
should_auto_renew b s
language t s
price m sd
taxonomy_id i s
production_partners j s
skus j
views i sd""",
    {
        "creation_timestamp": "created_timestamp",
        "created_timestamp": "creation_timestamp",
        "last_modified_timestamp": "updated_timestamp",
        "updated_timestamp": "last_modified_timestamp",
    },
)
"""Listings: all available fields in the order of the user's document."""

REVIEW_FIELDS: Final = _fields(
    """shop_id i a
listing_id i a
transaction_id i a
buyer_user_id i s
rating i s
review t s
language t s
image_url_fullxfull t
create_timestamp i a
created_timestamp i
update_timestamp i
updated_timestamp i""",
    {
        "create_timestamp": "created_timestamp",
        "created_timestamp": "create_timestamp",
        "update_timestamp": "updated_timestamp",
        "updated_timestamp": "update_timestamp",
    },
)
"""Reviews: all available fields in the order of the user's document."""
