"""How the list of a shop is read: oldest first, then newest first if that shows more. Pure.

A position counts the listings passed: positions below the reach are offsets of the list oldest
first, those from the reach on are offsets of the list newest first. So one number is the progress
of a shop, and it survives a kill.
"""

from typing import Literal

import msgspec

from furnisync.limits import ETSY_PAGING, Paging


class ListAsk(msgspec.Struct, frozen=True):
    """Parameters of findAllActiveListingsByShop."""

    offset: int
    sort_order: Literal["asc", "desc"]


def ask_at(position: int, paging: Paging = ETSY_PAGING) -> ListAsk:
    """The call for a position."""
    if position < paging.reach:
        return ListAsk(position, "asc")
    return ListAsk(position - paging.reach, "desc")


def next_position(
    position: int, sent: int, counted: int | None, found: int, paging: Paging = ETSY_PAGING
) -> int | None:
    """The position after a page; None if the list is complete.

    Args:
        position: of the page.
        sent: number of its results.
        counted: the `count` of its answer.
        found: distinct listings of the list so far, including this page.
        paging: limits of the API.

    A count below the number of listings is an error and is ignored.
    """
    ask = ask_at(position, paging)
    if counted is not None and counted < ask.offset + sent:
        counted = None
    end = ask.offset + sent if counted is None else counted
    # A server may have smaller pages than we ask for: then its count shows that there are more.
    passed = paging.page_size if counted is None else sent
    further = ask.offset + passed
    more = sent == paging.page_size if counted is None else further < counted and sent > 0
    if more and further <= paging.offset_cap and (ask.sort_order == "asc" or found < end):
        return position + passed
    if ask.sort_order == "asc" and found < end:
        return paging.reach
    return None
