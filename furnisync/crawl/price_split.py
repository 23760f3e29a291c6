"""Where to cut a price interval that holds more listings than a query can show. Pure.

Cuts are half a cent beside prices of listings, so that no listing is on both sides, and
neighbors share the cut, because it is not documented whether Etsy's filter is exact to the cent.
"""

import itertools
import math
from collections.abc import Mapping, Sequence

CENT = 0.01
TARGET = 8_000
"""Listings in a piece after a cut: below the reach by sampling errors and growth."""
MERGE_BELOW = TARGET * 3 // 4
"""Neighbors with fewer together are merged; below the target, so that no cut follows."""
HIGHEST = 1_000_000.0
"""The end of the last interval in the plan file; no price filter is sent for it."""


def cut(low: float | None, high: float | None, count: int, prices: Sequence[float]) -> list[float]:
    """Cuts strictly inside an interval, so that each piece holds about `TARGET` listings.

    Args:
        low: lower end in US dollars, None if open.
        high: upper end, None if open.
        count: listings inside, by Etsy's count.
        prices: a sample of their prices; may be empty.

    Returns:
        ascending cuts; empty if the interval is a single price, which cannot be cut.
    """
    bottom, top = low or 0.0, HIGHEST if high is None else high
    inside = sorted(price for price in prices if bottom <= price <= top)
    pieces = max(2, math.ceil(count / TARGET))
    cuts = _quantile_cuts(inside, pieces, bottom, top) if inside else set()
    if not cuts:
        cuts = {_middle(bottom, top)} | _around(inside)
    return sorted(one for one in cuts if bottom < one < top)


def _quantile_cuts(inside: Sequence[float], pieces: int, bottom: float, top: float) -> set[float]:
    """Cuts at the sample's quantiles; a price that spans several gets its own interval."""
    quantiles = [inside[len(inside) * n // pieces] for n in range(1, pieces)]
    cuts = {_beside(price) for price in quantiles}
    for price in set(quantiles):
        if quantiles.count(price) > 1:
            cuts |= _around([price])
    return {one for one in cuts if bottom < one < top}


def _around(prices: Sequence[float]) -> set[float]:
    """Both sides of the most frequent price of the sample."""
    if not prices:
        return set()
    heavy = max(set(prices), key=prices.count)
    return {_beside(heavy), _beside(heavy + CENT)}


def _beside(price: float) -> float:
    """Half a cent below a price."""
    return round(math.floor(price * 100 + 1e-6) / 100 - CENT / 2, 3)


def _middle(bottom: float, top: float) -> float:
    """The cut nearest to the middle; strictly inside if the interval has two prices.

    Prices spread over orders of magnitude, so the geometric mean halves them better.
    """
    low = max(bottom, 1.0)
    middle = math.sqrt(low * top) if top > 4 * low else (bottom + top) / 2
    return round((round(middle * 100 - 0.5) + 0.5) / 100, 3)


def merge(
    breaks: Sequence[float], counts: Mapping[tuple[float | None, float | None], int]
) -> tuple[float, ...]:
    """Leave out breaks between neighbors that have shrunk.

    Args:
        breaks: ascending price breaks of a taxonomy node.
        counts: listings of intervals as last counted, by their ends; intervals without a count
            are not merged.
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
    """An interval's ends for a query: the plan's outermost are open."""
    return (None if low <= 0 else low, None if high >= HIGHEST else high)
