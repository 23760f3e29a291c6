"""Which listings of an answer are furniture, whatever the search was asked for.

Etsy's search was seen to ignore its filters. So a listing counts by its own taxonomy node: one that
the taxonomy has elsewhere is left out, and that is told once a run. A node that the taxonomy does
not have (yet) proves nothing.
"""

import logging
import sqlite3
from collections.abc import Iterable, Sequence

from furnisync.catalog.schema import add_event
from furnisync.etsy.models import Listing
from furnisync.etsy.taxonomy import Tree

log = logging.getLogger("furnisync.discover")


class FurnitureFilter:
    """Tells furniture by the nodes of the crawl plan.

    Attributes:
        tree: the taxonomy.
        roots: the nodes of the plan.
        left_out: listings that searches showed from elsewhere, in this run.
    """

    def __init__(self, tree: Tree, roots: Iterable[int]) -> None:
        """Make a filter for the listings at or below some nodes."""
        self.tree = tree
        self.roots = tuple(roots)
        self._nodes = frozenset[int]().union(*map(tree.subtree, self.roots))
        self.left_out = 0

    def of_shop(self, found: Sequence[Listing]) -> list[Listing]:
        """The furniture in the list of a shop, which has everything that the shop sells."""
        return [one for one in found if one.taxonomy_id in self._nodes]

    def of_search(
        self, connection: sqlite3.Connection, found: Sequence[Listing], now: int
    ) -> list[Listing]:
        """What a search for furniture showed, without what is none."""
        kept = [
            one
            for one in found
            if one.taxonomy_id is None
            or one.taxonomy_id in self._nodes
            or one.taxonomy_id not in self.tree
        ]
        if len(kept) < len(found):
            if not self.left_out:
                message = (
                    "Etsy's search shows listings that are no furniture, such as listing"
                    f" {next(one.listing_id for one in found if one not in kept)}: left out"
                )
                log.warning("%s", message)
                add_event(connection, now, "filter", message)
            self.left_out += len(found) - len(kept)
        return kept
