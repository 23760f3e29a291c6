"""Which staged listings are in flight, so that no two calls request the same."""

import sqlite3
from collections.abc import Container
from dataclasses import dataclass
from typing import Final

from furnisync.history.fields.values import as_json
from furnisync.limits import ETSY_PAGING

BATCH_SIZE: Final = ETSY_PAGING.page_size


@dataclass(frozen=True, slots=True)
class BatchClaim:
    """Listings to request in one batch call.

    Attributes:
        ids: for the call, without duplicates.
        staged: their syncs: (sync_id, listing_id).
    """

    ids: tuple[int, ...]
    staged: tuple[tuple[int, int], ...]

    def split(self, ids: Container[int | None]) -> "tuple[BatchClaim, BatchClaim]":
        """The part with these ids, and the rest."""
        here = tuple(pair for pair in self.staged if pair[1] in ids)
        rest = tuple(pair for pair in self.staged if pair[1] not in ids)
        return _claim(here), _claim(rest)


def _claim(staged: tuple[tuple[int, int], ...]) -> BatchClaim:
    return BatchClaim(tuple(dict.fromkeys(listing_id for _, listing_id in staged)), staged)


class Claims:
    """Which staged ids are in flight; after a kill all are free again.

    `take` runs in the writer's thread. A claim is given back after its answer was committed, and
    after its call failed.
    """

    def __init__(self) -> None:
        self._taken: set[tuple[int, int]] = set()

    def take(
        self, connection: sqlite3.Connection, limit: int = BATCH_SIZE, *, full_only: bool = False
    ) -> BatchClaim | None:
        """Take up to `limit` staged ids, of any shops, oldest sync first; None if none wait.

        One that was set aside before comes alone.
        With `full_only` also None while fewer than `limit` wait: more may come to fill the call.
        """
        rows = connection.execute(
            "SELECT sync_id, listing_id, listing_id IN (SELECT listing_id FROM set_aside)"
            " FROM work_ids WHERE status = 0 ORDER BY sync_id, listing_id LIMIT ?",
            (limit + len(self._taken),),
        )
        found = [row for row in rows if (row[0], row[1]) not in self._taken]
        alone = [(row[0], row[1]) for row in found if row[2]][:1]
        free = alone or [(row[0], row[1]) for row in found][:limit]
        if not free or (full_only and not alone and len(free) < limit):
            return None
        self._taken.update(free)
        return _claim(tuple(free))

    def give_back(self, claim: BatchClaim) -> None:
        """Release a claim whose answer is committed or whose call failed."""
        self._taken.difference_update(claim.staged)


def shops_of(connection: sqlite3.Connection, claim: BatchClaim) -> list[int]:
    """The shops whose syncs wait for a claim."""
    rows = connection.execute(
        "SELECT shop_id FROM work_shops WHERE sync_id IN (SELECT value FROM json_each(?))",
        (as_json(list({sync_id for sync_id, _ in claim.staged})),),
    )
    return [row[0] for row in rows]
