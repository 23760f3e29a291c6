"""Reads a page that fails as a whole by smaller pages, so that only single places are missing.

A list or review page of 100 fails if Etsy stumbles over one of its results. Each half is requested,
and the half of a half that fails, down to a single result. One such result takes 14 calls.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from furnisync.errors import Transient
from furnisync.etsy.group_search import MEMBER_FAULTS

__all__ = ["read_around"]

P = TypeVar("P")

HOPELESS_AFTER = 16
"""If so many calls fail, it is not a single result: the page fails."""


async def read_around(
    start: int, size: int, fetch: Callable[[int, int], Awaitable[P]]
) -> tuple[list[P], list[str]]:
    """Read a page by parts.

    Args:
        start: the offset of the page.
        size: number of results that it should have.
        fetch: requests `(offset, limit)`; raises one of `MEMBER_FAULTS`.

    Returns:
        the parts that came, in order, and the reason of each result that did not.

    Raises:
        one of `MEMBER_FAULTS`: nothing came, or too little.
    """
    parts: list[P] = []
    missing: list[str] = []
    failures = 0
    waiting = [(start + size // 2, size - size // 2), (start, size // 2)]
    while waiting:
        offset, limit = waiting.pop()
        try:
            parts.append(await fetch(offset, limit))
        except MEMBER_FAULTS as error:
            failures += 1
            if failures == HOPELESS_AFTER:
                raise
            if limit == 1:
                missing.append(f"the result at offset {offset:,}: {error}")
            else:
                half = limit // 2
                waiting += [(offset + half, limit - half), (offset, half)]
    if not parts:
        raise Transient(missing[0])
    return parts, missing
