"""The paging rule: how a list that shifts while it is read is read whole. Pure.

Pages are asked for oldest first, each beginning at the last listing of the one before, so that two
neighbours share a listing. New and renewed listings join at the end and are met there. A listing
that ends moves all later ones down by one place, and one of them would slip through between two
pages; then the neighbours share no listing, and the walk steps back between them.

Why sharing is proof: listings that neither end nor are renewed keep their order for ever. Such a
listing stands, at all times, between two of the shared ones, and the page that holds both of those
held it too, for a page is contiguous at its instant. It does not matter in which order or how far
apart in time the pages were fetched. A shared listing counts only with an unchanged creation time:
one that was renewed in between stands in two places.
"""

import itertools
from collections import Counter
from collections.abc import Collection, Sequence

import msgspec

from furnisync.catalog.crawl import PageRow, Part

LIMIT = 100
STRIDE = LIMIT - 1
OFFSET_CAP = 12_000
REACH = OFFSET_CAP + LIMIT
"""So many listings can one query show."""
TRIES_OF_ODD_PAGE = 3
"""So often is a page read that fell short of its count or repeated listings."""


class NextReads(msgspec.Struct, frozen=True):
    """What to do next with a list.

    Exactly one of these holds: `starts` says which offsets to read; `over_reach`: the list is
    longer than a query shows; `complete`: everything arrived; `stuck` says why it never will.
    """

    starts: tuple[int, ...] = ()
    complete: bool = False
    over_reach: bool = False
    stuck: str | None = None


def next_reads(pages: Sequence[PageRow], part: Part = "whole") -> NextReads:
    """Decide from the pages that arrived (by offset, distinct) what to read next.

    `oldest` and `newest` parts end at the reach, other lists must end before it.
    """
    if not pages or pages[0].start != 0:
        return NextReads(starts=(0,))
    count = _count(pages)
    if part == "whole" and count is not None and count > REACH:
        return NextReads(over_reach=True)
    wanted = set(_grid(count)) - {page.start for page in pages}
    wanted |= _odd_pages(pages)
    if wanted:
        return NextReads(starts=tuple(sorted(wanted)))
    last = pages[-1]
    if last.sent >= LIMIT and last.count != last.start + last.sent:
        if last.start < OFFSET_CAP:
            return NextReads(starts=(min(last.start + STRIDE, OFFSET_CAP),))
        if part == "whole" and (count is None or count > REACH):
            return NextReads(over_reach=True)
    return _close_gaps(pages)


def _count(pages: Sequence[PageRow]) -> int | None:
    """What the page that was asked for last, as far as we know, said of the whole."""
    told = [page.count for page in pages if page.count is not None]
    return max(told) if told else None


def _grid(count: int | None) -> list[int]:
    """Offsets that show `count` listings with neighbours sharing one."""
    end = min(count or 0, REACH)
    starts = list(range(0, max(end - 1, 1), STRIDE))
    return sorted({min(start, OFFSET_CAP) for start in starts})


def _odd_pages(pages: Sequence[PageRow]) -> set[int]:
    """Pages worth another look: shorter than their own count says, or repeating listings.

    Etsy was seen sending duplicates in place of other listings. That neighbours share some is the
    rule of this walk; what stands twice in one page, or in pages that are no neighbours, is odd.
    """
    odd = set()
    last_seen: dict[tuple[int, int | None], int] = {}
    for place, page in enumerate(pages):
        due = LIMIT if page.count is None else min(LIMIT, page.count - page.start)
        short = page.count is not None and page.sent < due
        repeats = any(number > 1 for number in Counter(page.items).values()) or any(
            place - last_seen.get(item, place) > 1
            and page.start - pages[last_seen[item]].start >= LIMIT
            for item in page.items
        )
        last_seen.update(dict.fromkeys(page.items, place))
        undecoded = len(page.items) < page.sent
        if (short or repeats or undecoded) and page.tries < TRIES_OF_ODD_PAGE:
            odd.add(page.start)
    return odd


def _close_gaps(pages: Sequence[PageRow]) -> NextReads:
    starts: set[int] = set()
    present = {page.start for page in pages}
    stuck = 0
    for before, after in itertools.pairwise(pages):
        if _linked(before, after):
            continue
        step_back = _step_back(before, after, present)
        if step_back is None:
            stuck += 1
        else:
            starts.add(step_back)
    if starts:
        return NextReads(starts=tuple(sorted(starts)))
    if stuck:
        return NextReads(stuck=f"the list shifted too much to be read whole ({stuck} gaps)")
    return NextReads(complete=True)


def _linked(before: PageRow, after: PageRow) -> bool:
    """Neighbours share a listing, or nothing is left for the later one to show."""
    return not after.items or not set(before.items).isdisjoint(after.items)


def _step_back(before: PageRow, after: PageRow, present: Collection[int]) -> int | None:
    """The offset to read between two neighbours that share nothing; None: no try is left."""
    middle = (before.start + after.start) // 2
    if middle not in present:
        return middle
    if before.tries < TRIES_OF_ODD_PAGE:
        return before.start
    return after.start if after.tries < TRIES_OF_ODD_PAGE else None
