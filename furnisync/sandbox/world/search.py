"""The search index: which listings a query finds, and in which order.

Each listing is a row in numpy columns. A change rewrites one row. An answer is computed once and
cached until the next change, so that paging through an unchanged world costs a dictionary lookup.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from furnisync.sandbox.world.taxonomy import Taxonomy

__all__ = ["SORTS", "Query", "Row", "SearchIndex"]

SORTS = ("created", "updated", "price", "score")

_COLUMNS: dict[str, type] = {
    "findable": np.bool_,
    "taxonomy": np.int32,
    "shop": np.int64,
    "listing": np.int64,
    "price": np.float64,
    "created": np.int64,
    "updated": np.int64,
    "score": np.float64,
}

_CACHED_ANSWERS = 256
_NODE_LIMIT = 100_000


@dataclass(frozen=True, slots=True)
class Row:
    """The indexed fields of one listing."""

    findable: bool
    taxonomy: int
    shop: int
    listing: int
    price: float
    created: int
    updated: int
    score: float


@dataclass(frozen=True, slots=True)
class Query:
    """One search; two equal ones have equal answers while nothing changes."""

    shop: int | None = None
    taxonomy: int | None = None
    min_price: float | None = None
    max_price: float | None = None
    keywords: str = ""
    location: str = ""
    sort_on: str = "created"
    descending: bool = True


class SearchIndex:
    """Finds listings by column, in a stable order."""

    def __init__(self, taxonomy: Taxonomy, *, ties_reversed: bool) -> None:
        self._taxonomy = taxonomy
        self._ties_reversed = ties_reversed
        self._size = 0
        self._columns: dict[str, Any] = {n: np.zeros(1024, t) for n, t in _COLUMNS.items()}
        self._answers: dict[Query, Any] = {}
        self._subtrees: dict[int, Any] = {}

    def put(self, serial: int, row: Row) -> None:
        """Set the row of listing number `serial`."""
        if serial >= len(self._columns["shop"]):
            for name, column in self._columns.items():
                self._columns[name] = np.concatenate([column, np.zeros_like(column)])
        self._size = max(self._size, serial + 1)
        for name, column in self._columns.items():
            column[serial] = getattr(row, name)
        self._answers.clear()

    def forget_taxonomy(self) -> None:
        """Clear the caches of the taxonomy after it changed."""
        self._subtrees.clear()
        self._answers.clear()

    def find(self, query: Query, says: Callable[[int, Query], bool]) -> Sequence[int]:
        """Return the serials of the matching listings, in the requested order.

        `says` tests the text of a listing, for queries with keywords or a location.
        """
        answer = self._answers.get(query)
        if answer is None:
            if len(self._answers) >= _CACHED_ANSWERS:
                self._answers.clear()
            answer = self._answers[query] = self._sorted(query, self._matching(query, says))
        found: Sequence[int] = answer
        return found

    def _column(self, name: str) -> Any:
        return self._columns[name][: self._size]

    def _matching(self, query: Query, says: Callable[[int, Query], bool]) -> Any:
        mask = self._column("findable").copy()
        if query.shop is not None:
            mask &= self._column("shop") == query.shop
        if query.taxonomy is not None:
            mask &= self._below(query.taxonomy)[self._column("taxonomy")]
        if query.min_price is not None:
            mask &= self._column("price") >= query.min_price
        if query.max_price is not None:
            mask &= self._column("price") <= query.max_price
        serials = np.flatnonzero(mask)
        if query.keywords or query.location:
            serials = serials[[says(int(s), query) for s in serials]] if serials.size else serials
        return serials

    def _below(self, node_id: int) -> Any:
        table = self._subtrees.get(node_id)
        if table is None:
            table = self._subtrees[node_id] = np.zeros(_NODE_LIMIT, np.bool_)
            table[[i for i in self._taxonomy.subtree(node_id) if i < _NODE_LIMIT]] = True
        return table

    def _sorted(self, query: Query, serials: Any) -> Any:
        keys = self._column(query.sort_on)[serials]
        ids = self._column("listing")[serials]
        if not query.descending:
            return serials[np.lexsort((ids, keys))].tolist()
        if self._ties_reversed:
            return serials[np.lexsort((ids, keys))[::-1]].tolist()
        return serials[np.lexsort((ids, -keys))].tolist()
