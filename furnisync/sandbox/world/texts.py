"""Titles, descriptions, tags and reviews, including unusual ones, derived from an id."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from furnisync.sandbox.world.world import Listing

__all__ = ["MATERIALS", "description_of", "review_text", "shop_name", "tags_of", "title_of"]

MATERIALS = ("oak", "walnut", "pine", "rattan", "steel", "linen", "velvet", "teak", "epoxy", "ash")
_STYLES = (
    "Mid Century",
    "Rustic",
    "Farmhouse",
    "Bauhaus",
    "Boho",
    "Shaker",
    "Industrial",
    "Japandi",
)
_ADJECTIVES = ("Handmade", "Solid", "Vintage", "Custom", "Reclaimed", "Slim", "Round", "Foldable")
_THINGS = (
    "Coffee Table",
    "Bookshelf",
    "Lounge Chair",
    "Nightstand",
    "Floor Pillow",
    "Writing Desk",
    "Bed Frame",
    "Bar Stool",
    "Room Divider",
    "Ottoman",
)
_TAILS = ("for Small Spaces", "with Drawers", "| Made to Order", "- Free Shipping", "Set of 2", "")
_SENTENCES = (
    "Each piece is cut, sanded and oiled by hand in our workshop.",
    "Please measure your doorway before ordering; we cannot take back custom sizes.",
    "The finish is food-safe, matt, and easy to renew at home.",
    "Made to order within two to four weeks.",
    "Colours may look different on your screen.",
    "Ships in two parcels; assembly takes about 15 minutes and no tools.",
    "Write to us for other sizes, woods or leg shapes.",
    "Joined with dowels and wedged tenons, without a single screw.",
    "Kann auch in Eiche geölt bestellt werden.",
    "Expédié depuis notre atelier près de Lyon.",
)
_ODD_TITLES = (
    "🪑 Oak stool 🌿✨ {0} 👩‍👩‍👧‍👦",
    "طاولة قهوة خشبية مصنوعة يدويًا {0}",
    "שולחן סלון מעץ אלון {0} (handmade)",
    "Mom&#39;s 36&quot; x 24&quot; &lt;Oak&gt; Table &amp; Bench {0}",
    "手作りの木製サイドテーブル {0}",
    '  <b>Desk</b> "quoted" \\ back/slash; DROP TABLE listings;-- {0}',
    "Zero\u200bwidth\u00a0and\u202eoverride {0}",
    "Line\nbreak and\ttab {0}",
)
_NAMES = ("Oak", "Birch", "Loft", "Nest", "Fern", "Harbor", "Pine", "Studio", "Craft", "Timber")
_PRAISE = (
    "Beautiful table, exactly as shown.",
    "Arrived a week late but well packed.",
    "Wobbly legs, seller sent new ones at once 👍🏽",
    "Sehr schöne Verarbeitung, gerne wieder!",
    "C&#39;est parfait !",
    "כיסא נהדר",
    "Love it!!! 😍😍😍",
    "Smaller than I thought.\nStill nice.",
)


def title_of(listing: Listing) -> str:
    """Return the listing's title."""
    if "title" in listing.overrides:
        return str(listing.overrides["title"])
    random = Random(listing.listing_id)
    odd = random.random()
    if odd < 0.04:
        return random.choice(_ODD_TITLES).format(listing.listing_id % 1000)
    words = [random.choice(_ADJECTIVES), random.choice(_STYLES), random.choice(MATERIALS).title()]
    title = " ".join([*words, random.choice(_THINGS), random.choice(_TAILS)]).strip()
    return f"{title}, " * 5 + title if odd > 0.985 else title


def description_of(random: Random) -> str:
    """Return a description of one to five paragraphs, sometimes an empty one."""
    if random.random() < 0.01:
        return ""
    paragraphs = random.randint(1, 5)
    return "\n\n".join(" ".join(random.choices(_SENTENCES, k=3)) for _ in range(paragraphs))


def tags_of(random: Random) -> list[str]:
    """Return up to 13 tags."""
    words = [f"{m} {t.split()[0].lower()}" for m, t in zip(MATERIALS, _THINGS, strict=True)]
    return random.sample([*words, "furniture", "déco", "gift &amp; home"], random.randint(0, 13))


def shop_name(random: Random, number: int) -> str:
    """Return a shop's name with only characters that are valid in a URL."""
    return f"{random.choice(_NAMES)}And{random.choice(_NAMES)}{number}"


def review_text(random: Random) -> str:
    """Return the text of a review: sometimes empty, rarely with a NUL."""
    odd = random.random()
    if odd < 0.12:
        return ""
    if odd < 0.13:
        return "before\x00after"
    if odd > 0.99:
        return " ".join(random.choices(_PRAISE, k=60))
    return random.choice(_PRAISE)
