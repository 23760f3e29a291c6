"""Finds the members that make a group call fail, so that the others are read.

A batch of 100 listings fails as a whole if Etsy stumbles over one of them. Binary search finds that
one: the left half is asked; if it fails the search continues there and the right half waits,
otherwise in the right half. What waits is asked in one call at the end. For one such member of 100
this takes 9 calls at most, each tried once.
"""

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from furnisync.errors import ApiUnavailable, BadRequest, ItemRefused

__all__ = ["MEMBER_FAULTS", "SearchResult", "search_group"]

MEMBER_FAULTS = (ApiUnavailable, BadRequest, ItemRefused)
"""Errors of a group call that one of its members may cause."""
HOPELESS_AFTER = 3
"""If this many members fail alone and nothing succeeds, it is not the members."""


class SearchResult(msgspec.Struct, frozen=True):
    """What a search found.

    Attributes:
        blamed: members that fail alone, with the reason.
        unread: members that were not read, and are not to blame: nothing at all succeeded.
    """

    blamed: dict[int, str]
    unread: tuple[int, ...] = ()


async def search_group(
    ids: Sequence[int], ask: Callable[[Sequence[int]], Awaitable[None]]
) -> SearchResult:
    """Read all members of a group that failed as a whole, except those that make it fail.

    Args:
        ids: the members.
        ask: reads some of them and stores the answer; raises one of `MEMBER_FAULTS`.
    """
    blamed: dict[int, str] = {}
    unread = dict.fromkeys(ids)

    async def reads(part: Sequence[int]) -> str | None:
        try:
            await ask(part)
        except MEMBER_FAULTS as error:
            return str(error)
        for one in part:
            del unread[one]
        return None

    part: Sequence[int] = ids
    while part:
        while len(part) > 1:
            half = part[: len(part) // 2]
            failed = await reads(half)
            part = half if failed else part[len(half) :]
        if reason := await reads(part):
            blamed[part[0]] = reason
            del unread[part[0]]
        if len(blamed) == HOPELESS_AFTER and len(unread) + len(blamed) == len(ids):
            return SearchResult({}, tuple(ids))
        part = tuple(unread)
        if part and not await reads(part):
            break
    return SearchResult(blamed)
