"""Where to cut a price interval that holds more listings than a query can show. Pure.

Cuts lie half a cent beside prices that listings have, so that no listing stands on two sides, and
neighbours share the cut: whether Etsy's filter is exact to the cent is not documented.
"""

import itertools
import math
from collections.abc import Mapping, Sequence

CENT = 0.01
TARGET = 8_000
"""Listings an interval is cut to hold: below the reach by what a sample may err and what joins."""
MERGE_BELOW = TARGET * 3 // 4
"""Neighbours that hold fewer together are merged; less than the target, lest they be cut again."""
HIGHEST = 1_000_000.0
"""The end of the last interval in the config's form; no price filter is sent there."""


def cut(low: float | None, high: float | None, count: int, prices: Sequence[float]) -> list[float]:
    """Cuts strictly inside an interval, so that each piece holds about `TARGET` listings.

    Args:
        low: lower end in US dollars, None where open.
        high: upper end, None where open.
        count: listings inside, as Etsy said it.
        prices: a sample of their prices; may be empty.

    Returns:
        ascending cuts; empty where the interval is a single price, which cannot be cut.
    """
    bottom, top = low or 0.0, HIGHEST if high is None else high
    inside = sorted(price for price in prices if bottom <= price <= top)
    pieces = max(2, math.ceil(count / TARGET))
    cuts = _quantile_cuts(inside, pieces, bottom, top) if inside else set()
    if not cuts:
        cuts = {_middle(bottom, top)} | _around(inside)
    return sorted(one for one in cuts if bottom < one < top)


def _quantile_cuts(inside: Sequence[float], pieces: int, bottom: float, top: float) -> set[float]:
    """Cuts at the sample's quantiles; a price that spans several quantiles is set apart."""
    quantiles = [inside[len(inside) * n // pieces] for n in range(1, pieces)]
    cuts = {_beside(price) for price in quantiles}
    for price in set(quantiles):
        if quantiles.count(price) > 1:
            cuts |= _around([price])
    return {one for one in cuts if bottom < one < top}


def _around(prices: Sequence[float]) -> set[float]:
    """Both sides of the price that most of the sample has."""
    if not prices:
        return set()
    heavy = max(set(prices), key=prices.count)
    return {_beside(heavy), _beside(heavy + CENT)}


def _beside(price: float) -> float:
    """Half a cent below a price."""
    return round(math.floor(price * 100 + 1e-6) / 100 - CENT / 2, 3)


def _middle(bottom: float, top: float) -> float:
    """The cut nearest to the middle; strictly inside whatever holds two prices.

    Prices spread over orders of magnitude: the geometric middle halves them better.
    """
    low = max(bottom, 1.0)
    middle = math.sqrt(low * top) if top > 4 * low else (bottom + top) / 2
    return round((round(middle * 100 - 0.5) + 0.5) / 100, 3)


def merge(
    breaks: Sequence[float], counts: Mapping[tuple[float | None, float | None], int]
) -> tuple[float, ...]:
    """Leave out breaks between neighbours that have shrunk.

    Args:
        breaks: ascending price breaks of a taxonomy.
        counts: listings of intervals as last counted, by their ends; what is missing in it was not
            counted, and is not merged.
    """
    kept = [breaks[0]]
    held: int | None = None
    for low, high in itertools.pairwise(breaks):
        number = counts.get(open_ends(low, high))
        if held is not None and number is not None and held + number < MERGE_BELOW:
            held += number
            kept[-1] = high
        else:
            held = number
            kept.append(high)
    return tuple(kept)


def open_ends(low: float, high: float) -> tuple[float | None, float | None]:
    """An interval's ends as they are asked for: the plan's outermost are open."""
    return (None if low <= 0 else low, None if high >= HIGHEST else high)
