"""The options of a sandbox."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["Options", "parse_options"]


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one sandbox; each is a command line option of the same name."""

    port: int = 0
    cdn_port: int = 0
    seed: int = 1
    shops: int = 300
    listings: int = 6000
    images_mean: float = 7.0
    reviews_mean: float = 12.0
    giant_shop: int = 0
    giant_price: int = 0
    giant_reviews: int = 0
    qps: int = 100
    qpd: int = 100_000
    day_seconds: float = 86_400.0
    retry_after: int = 0
    free_429: bool = False
    latency_ms: float = 0.0
    cdn_latency_ms: float = 0.0
    faults: str = ""
    churn_per_hour: float = 0.0
    reviews_per_hour: float = 0.0
    image_bytes: int = 45_000
    pictures: int = 24
    ties: str = "reversed"
    start_at: float = 0.0
    ready_file: str = ""
    watch_stdin: bool = False

    def __post_init__(self) -> None:
        furniture_floor = max(self.giant_shop, self.giant_price)
        if self.shops < 1 or self.listings < furniture_floor:
            raise ValueError("--shops needs 1 and --listings at least the size of each giant")
        if self.ties not in ("reversed", "same"):
            raise ValueError("--ties is 'reversed' or 'same'")


_HELP = {
    "port": "port of the API (0: any free one)",
    "cdn_port": "port of the image CDN (0: any free one)",
    "seed": "the same seed makes the same world, its times moved by whole days",
    "shops": "shops, including closed, hidden and empty ones",
    "listings": "active furniture listings that the search shows, exactly; others are added",
    "images_mean": "images a listing on average",
    "reviews_mean": "reviews a shop on average",
    "giant_shop": "give one shop this many of the listings",
    "giant_price": "give this many listings one exact price in one leaf",
    "giant_reviews": "give one shop exactly this many reviews",
    "qps": "calls allowed in any second",
    "qpd": "calls allowed in the sliding day",
    "day_seconds": "length of the sliding day, of 12 buckets",
    "retry_after": "retry-after of every 429 (0: the true value)",
    "free_429": "calls answered 429 do not count against the day",
    "latency_ms": "wait before each answer of the API",
    "cdn_latency_ms": "wait before each answer of the CDN",
    "faults": "file with a JSON list of fault rules",
    "churn_per_hour": "share of the listings that change in an hour",
    "reviews_per_hour": "new reviews in an hour, over all shops",
    "image_bytes": "size of a 570xN image, about",
    "pictures": "different drawings behind the images",
    "ties": "order of equal sort keys in descending lists: reversed, or same as ascending",
    "start_at": "unix time at which the sandbox's clock starts (0: now)",
    "ready_file": "file for the addresses, written when the sandbox listens",
    "watch_stdin": "end when standard input closes, so that no sandbox outlives its parent",
}


def parse_options(argv: list[str] | None = None) -> Options:
    """Read the command line; a wrong one prints the usage and exits with status 2."""
    parser = argparse.ArgumentParser(prog="furnisync sandbox", description=Options.__doc__)
    for field in fields(Options):
        flag = "--" + field.name.replace("_", "-")
        default: Any = field.default
        if isinstance(default, bool):
            parser.add_argument(flag, action="store_true", help=_HELP[field.name])
        else:
            shown = f"{_HELP[field.name]} (default: {default!r})"
            parser.add_argument(flag, type=type(default), default=default, help=shown)
    try:
        return Options(**vars(parser.parse_args(argv)))
    except ValueError as error:
        parser.error(str(error))
