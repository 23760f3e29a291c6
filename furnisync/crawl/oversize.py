"""Oversize intervals: a single price with more listings than a query shows.

    both ends of the sort order  (beyond the reach of both ends: the child nodes first)
      -> child nodes -> the ends of other orders, one after the other -> shops that sell there

Each step runs only if the earlier ones left listings out; the last is `ShopReader`'s.
"""

import logging
import sqlite3
from collections.abc import Sequence
from typing import Final, Literal

from furnisync.catalog import frontier, listings, shops
from furnisync.catalog.frontier import Bounds, Interval, Order, Part, PassRow
from furnisync.catalog.oversize import OversizeInterval, add_found, count_oversize
from furnisync.etsy.taxonomy import Tree
from furnisync.limits import ETSY_PAGING

log = logging.getLogger("furnisync.discover")

BOTH_ENDS: Final = 2 * ETSY_PAGING.reach - ETSY_PAGING.page_size
"""Maximum of listings that both ends show so that they meet."""
OTHER_ENDS: Final[tuple[tuple[Order, Part], ...]] = (
    ("score", "newest"),
    ("score", "oldest"),
    ("updated", "newest"),
    ("updated", "oldest"),
)
"""Ends of other sort orders, those least similar to `created` first."""

Step = Literal["ends", "children"] | tuple[Order, Part]


def split_oversize(
    connection: sqlite3.Connection, tree: Tree, interval: Interval, count: int
) -> None:
    """Split an interval that cannot be cut by price: the first step."""
    giant = OversizeInterval(interval, count)
    _take(connection, tree, giant, _next_step(giant, _children(tree, interval)) or "ends")


def widen(connection: sqlite3.Connection, tree: Tree, pass_id: int) -> bool:
    """Take the next step for each oversize interval with missing listings, if there is one.

    Call it when all other intervals of the pass are read.

    Returns:
        whether there is more to read now.
    """
    if frontier.count_unread(connection, pass_id):
        return False
    widened = False
    for giant in count_oversize(connection, pass_id):
        step = _next_step(giant, _children(tree, giant.interval))
        if giant.out_of_reach and step is not None:
            _take(connection, tree, giant, step)
            widened = True
    return widened


def make_shops_due(connection: sqlite3.Connection, tree: Tree, pass_id: int) -> None:
    """Make shops due that sell at that price: they may have the listings that no query showed."""
    for giant in _lacking(connection, pass_id):
        due = shops.make_shops_due(connection, *_where(tree, giant.interval))
        log.warning(
            "%s: %d of %d listings stayed out of reach; %d shops that sell at that price"
            " are read instead",
            named(giant.interval),
            giant.out_of_reach,
            giant.count,
            due,
        )


def count_reached(connection: sqlite3.Connection, tree: Tree, current: PassRow) -> None:
    """After those shops were read: count the known listings of each oversize interval."""
    for giant in _lacking(connection, current.pass_id):
        found = listings.take_into_pass(
            connection, current.pass_id, current.started_at, *_where(tree, giant.interval)
        )
        add_found(connection, giant.interval.interval_id, found)


def _lacking(connection: sqlite3.Connection, pass_id: int) -> list[OversizeInterval]:
    giants = count_oversize(connection, pass_id)
    return [one for one in giants if one.out_of_reach and not one.inner]


def _next_step(giant: OversizeInterval, children: Sequence[int]) -> Step | None:
    if children and not giant.by_children and giant.count > BOTH_ENDS:
        return "children"
    if ("created", "oldest") not in giant.tried:
        return "ends"
    if giant.by_children:
        return None
    if children:
        return "children"
    return next((one for one in OTHER_ENDS if one not in giant.tried), None)


def _take(connection: sqlite3.Connection, tree: Tree, giant: OversizeInterval, step: Step) -> None:
    one = giant.interval
    own: list[Bounds] = [(one.taxonomy_id, one.low, one.high)]
    if step == "ends":
        reason = f"{giant.count:,} listings at one price, read from both ends"
        frontier.split_interval(connection, one, own, "oldest", reason)
        frontier.split_interval(connection, one, own, "newest", reason)
    elif step == "children":
        reason = f"{giant.count:,} listings at one price, read by child nodes"
        below: list[Bounds] = [(child, one.low, one.high) for child in _children(tree, one)]
        frontier.split_interval(connection, one, below, "whole", reason)
    else:
        order, part = step
        reason = f"{giant.count:,} listings at one price, read from all ends of all orders"
        frontier.split_interval(connection, one, own, part, reason, order)
    log.info("%s holds %s", named(one), reason)


def _children(tree: Tree, interval: Interval) -> Sequence[int]:
    assert interval.taxonomy_id is not None
    return tree.children(interval.taxonomy_id)


def _where(tree: Tree, interval: Interval) -> tuple[frozenset[int], float | None, float | None]:
    assert interval.taxonomy_id is not None
    return frozenset(tree.subtree(interval.taxonomy_id)), interval.low, interval.high


def named(interval: Interval) -> str:
    """A price interval as text."""
    low = "0" if interval.low is None else f"{interval.low:g}"
    high = "" if interval.high is None else f"{interval.high:g}"
    return f"taxonomy {interval.taxonomy_id}, ${low} to ${high or 'any'}"
