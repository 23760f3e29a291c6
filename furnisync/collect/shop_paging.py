"""How the list of a shop is read: oldest first, and newest first too where that shows more. Pure.

A position counts the listings passed: positions below the reach are offsets of the list oldest
first, those from the reach on are offsets of the list newest first. So one number says how far a
shop is, and survives a kill.
"""

from typing import Literal

import msgspec

PAGE_SIZE = 100
OFFSET_CAP = 12_000
REACH = OFFSET_CAP + PAGE_SIZE
"""So many listings does one order of the list show."""


class ListAsk(msgspec.Struct, frozen=True):
    """What to ask findAllActiveListingsByShop."""

    offset: int
    sort_order: Literal["asc", "desc"]


def ask_at(position: int) -> ListAsk:
    """The call for a position."""
    if position < REACH:
        return ListAsk(position, "asc")
    return ListAsk(position - REACH, "desc")


def next_position(position: int, sent: int, told: int | None, found: int) -> int | None:
    """The position after a page; None where the list is read.

    Args:
        position: of the page that came.
        sent: results in it.
        told: the `count` of its answer.
        found: distinct listings that the list has shown so far, this page's included.

    A count below what came is a slip and tells nothing.
    """
    ask = ask_at(position)
    if told is not None and told < ask.offset + sent:
        told = None
    end = ask.offset + sent if told is None else told
    further = ask.offset + PAGE_SIZE
    more = sent == PAGE_SIZE if told is None else further < told and sent > 0
    if more and further <= OFFSET_CAP and (ask.sort_order == "asc" or found < end):
        return position + PAGE_SIZE
    if ask.sort_order == "asc" and found < end:
        return REACH
    return None
