"""How the list of a shop is read: oldest first, and newest first too where that shows more. Pure.

A position counts the listings passed: positions below the reach are offsets of the list oldest
first, those from the reach on are offsets of the list newest first. So one number says how far a
shop is, and survives a kill.
"""

from typing import Literal

import msgspec

from furnisync.limits import ETSY_PAGING, Paging


class ListAsk(msgspec.Struct, frozen=True):
    """What to ask findAllActiveListingsByShop."""

    offset: int
    sort_order: Literal["asc", "desc"]


def ask_at(position: int, paging: Paging = ETSY_PAGING) -> ListAsk:
    """The call for a position."""
    if position < paging.reach:
        return ListAsk(position, "asc")
    return ListAsk(position - paging.reach, "desc")


def next_position(
    position: int, sent: int, told: int | None, found: int, paging: Paging = ETSY_PAGING
) -> int | None:
    """The position after a page; None where the list is read.

    Args:
        position: of the page that came.
        sent: results in it.
        told: the `count` of its answer.
        found: distinct listings that the list has shown so far, this page's included.
        paging: limits of the API.

    A count below what came is a slip and tells nothing.
    """
    ask = ask_at(position, paging)
    if told is not None and told < ask.offset + sent:
        told = None
    end = ask.offset + sent if told is None else told
    further = ask.offset + paging.page_size
    more = sent == paging.page_size if told is None else further < told and sent > 0
    if more and further <= paging.offset_cap and (ask.sort_order == "asc" or found < end):
        return position + paging.page_size
    if ask.sort_order == "asc" and found < end:
        return paging.reach
    return None
