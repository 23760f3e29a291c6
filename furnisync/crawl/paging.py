"""The paging rule: how to read a list completely while it shifts. Pure.

Pages are read oldest first, each starting at the last listings of the previous one, so that two
neighbors share some. New and renewed listings join at the end and are read there. A listing that
ends moves all later ones down by one place, and some of them could fall between two pages.
Then these two pages share nothing, and the walk reads back from the later one until they do.

Why sharing is proof: listings that neither end nor are renewed keep their order, and a
page is contiguous at its instant: it has every such listing that is between two of its own.
So no such listing is between two pages that share one. If shared listings connect the first page
with one that was not full, where the list ended at that instant, then every listing that lasted
through the walk is in one of the pages. It does not matter in which order or how
far apart in time they were read. A shared listing counts only with an unchanged creation time:
one that was renewed in between has two places. `count` is an estimate and proves no end.

A renewed listing could leave its old place before that is read and join the end after that is read.
So the page where listings join is read after all others have arrived: a listing that was
renewed before that instant is in it, or comes after a listing that a page had later.

Listings that were created in the same second may have another order in each answer. If the border
of two pages is within such a second, one more page is read that has all of it.

What no rule can see: a full page that has, instead of a listing, another one that its neighbor
also has.
"""

import dataclasses
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence

import msgspec

from furnisync.catalog.frontier import PageRow, Part
from furnisync.limits import BELIEVED_AFTER, ETSY_PAGING, Paging

STRAYS = 2
"""If two pages share this few listings, far from their earlier places, the answer is wrong."""
READS_MOST = 4
"""Maximum of reads: this many times the pages of a list, plus `READS_MORE`."""
READS_MORE = 20

Shared = Mapping[tuple[int, int], Sequence[int]]
"""For pairs of pages, by index: how much further on each shared listing was in the second page."""
Ground = Collection[tuple[int, int | None]]
"""(listing_id, created) of listings that were read earlier."""
Run = Mapping[int, int]
"""Connected pages, by index: where each would begin if all had been read at once."""


class NextReads(msgspec.Struct, frozen=True):
    """What to do next with a list.

    Exactly one of these is set: `starts` has the offsets to read; `over_reach`: the list is
    longer than a query shows; `complete`: everything arrived; `stuck` is why it never will.
    """

    starts: tuple[int, ...] = ()
    complete: bool = False
    over_reach: bool = False
    stuck: str | None = None


def next_reads(
    pages: Sequence[PageRow],
    part: Part = "whole",
    ground: Ground = frozenset(),
    paging: Paging = ETSY_PAGING,
) -> NextReads:
    """Decide from the pages that arrived (by offset, distinct) what to read next.

    `oldest` and `newest` parts end at the reach, other lists must end before it. `ground` has the
    listings of the `oldest` part, which was read completely: a `newest` part that shares a listing
    with it is complete.
    """
    if not pages or pages[0].start != 0:
        return NextReads(starts=(0,))
    count = max((page.count for page in pages if page.count is not None), default=0)
    if part == "whole" and count > paging.reach:
        return NextReads(over_reach=True)
    grid = page_grid(count - len(ground) if part == "newest" else count, paging)
    present = {page.start for page in pages}
    missing = [start for start in grid if start not in present]
    shared = _shared(pages)
    fewest = max(len(grid), pages[-1].start // paging.stride)
    too_many = sum(page.tries for page in pages) > READS_MOST * fewest + READS_MORE
    torn = set() if too_many else _torn_seconds(pages, paging)
    # The last page waits for all others.
    wanted = _odd_pages(pages, shared, paging).union(missing[:-1]) or torn or set(missing)
    if not wanted and too_many:
        return NextReads(stuck="the list shifted too fast to be read whole")
    wanted = wanted or _before_gaps(pages, shared, paging)
    if wanted:
        return NextReads(starts=tuple(sorted(wanted)))
    return _read_end(pages, part, ground, paging)


def next_of_order(pages: Sequence[PageRow], paging: Paging = ETSY_PAGING) -> NextReads:
    """The same for orders in which listings change places: each page once, no proof."""
    count = max((page.count for page in pages if page.count is not None), default=paging.reach)
    present = {page.start for page in pages}
    grid = range(0, min(count, paging.reach) if pages else 1, paging.page_size)
    missing = tuple(start for start in grid if start not in present)
    return NextReads(starts=missing, complete=not missing)


def observed_paging(pages: Sequence[PageRow], paging: Paging = ETSY_PAGING) -> Paging:
    """The paging by which a list is read: smaller pages if that is all that the server sends.

    It is believed after as many answers as any other odd answer (`BELIEVED_AFTER`).
    """
    full = [
        page for page in pages if page.count is not None and page.start + page.sent < page.count
    ]
    sizes = {page.sent for page in full}
    size = max(sizes, default=paging.page_size)
    believed = sum(page.tries for page in full) >= BELIEVED_AFTER
    if len(sizes) == 1 and believed and 2 * paging.overlap < size < paging.page_size:
        return dataclasses.replace(paging, page_size=size)
    return paging


def counted_length(pages: Sequence[PageRow]) -> int | None:
    """How many listings a complete list must have; None if no page says.

    The count of the last page includes all listings at that instant, and each of them is in
    some page. An earlier page counts listings that ended before they were read. But a single page
    may be wrong, so the last one is believed only down to half of the others.
    """
    counts = [page.count for page in sorted(pages, key=lambda page: page.wave)]
    counted = [count for count in counts if count is not None]
    return min(counted[-1], statistics.median_low(counted)) if counted else None


def page_grid(count: int, paging: Paging = ETSY_PAGING) -> list[int]:
    """Offsets that show `count` listings and the end, so that neighbors share some."""
    end = max(min(count, paging.reach) - paging.page_size + 1 + paging.stride, 1)
    return sorted({min(start, paging.offset_cap) for start in range(0, end, paging.stride)})


def _shared(pages: Sequence[PageRow]) -> Shared:
    """Compare all pages with each other."""
    seen: dict[tuple[int, int | None], list[tuple[int, int]]] = {}
    shared: dict[tuple[int, int], list[int]] = defaultdict(list)
    for place, page in enumerate(pages):
        for at, item in enumerate(dict.fromkeys(page.items), start=page.start):
            for other, other_at in seen.setdefault(item, []):
                shared[other, place].append(at - other_at)
            seen[item].append((place, at))
    return shared


def _are_strays(moves: Sequence[int], paging: Paging) -> bool:
    return len(moves) <= STRAYS and min(map(abs, moves)) >= paging.page_size


def _odd_pages(pages: Sequence[PageRow], shared: Shared, paging: Paging) -> set[int]:
    """Pages to read again: shorter than their own count says, or with repeated listings.

    Etsy was seen to send duplicates in place of other listings. Neighbors share some by the
    rule above; a listing twice in one page, or alone far from its earlier place, is wrong.
    """
    odd = set()
    for place, page in enumerate(pages):
        size = paging.page_size
        due = size if page.count is None else min(size, page.count - page.start)
        short = page.count is not None and page.sent < due
        repeats = any(number > 1 for number in Counter(page.items).values())
        undecoded = len(page.items) < page.sent
        if short or repeats or undecoded:
            odd.add(place)
    for pair, moves in shared.items():
        if _are_strays(moves, paging):
            odd.update(pair)
    return {pages[place].start for place in odd if pages[place].tries < BELIEVED_AFTER}


def _before_gaps(pages: Sequence[PageRow], shared: Shared, paging: Paging) -> set[int]:
    """Offsets to read so that all pages become connected with the first."""
    present = {page.start for page in pages}
    wanted = set()
    for run in _runs(pages, shared, paging)[1:]:
        front = min(run.values())
        newest = max(run, key=lambda place: (pages[place].wave, -run[place]))
        start = pages[newest].start - (run[newest] - front) - paging.page_size // 2
        while start in present:
            start -= 1
        wanted.add(min(max(start, 0), paging.offset_cap))
    return wanted


def _torn_seconds(pages: Sequence[PageRow], paging: Paging) -> set[int]:
    """Offsets from which one page has all of a second that two pages have parts of."""
    holders: dict[int, list[PageRow]] = defaultdict(list)
    for page in pages:
        for second in {created for _, created in page.items if created is not None}:
            holders[second].append(page)
    present = {page.start for page in pages}
    wanted = set()
    for second, held in holders.items():
        if len(held) > 1 and not any(_holds_whole(page, second, paging) for page in held):
            seconds = [created for _, created in held[0].items]
            start = max(held[0].start + seconds.index(second) - 1, 0)
            wanted.add(min(start, paging.offset_cap))
    return wanted - present


def _holds_whole(page: PageRow, second: int, paging: Paging) -> bool:
    """Whether a page shows where a second begins and where it ends."""
    seconds = [created for _, created in page.items]
    begins = page.start == 0 or seconds[0] != second
    return begins and (page.sent < paging.page_size or seconds[-1] != second)


def _runs(pages: Sequence[PageRow], shared: Shared, paging: Paging) -> list[Run]:
    """Pages with listings, grouped by connection; first the group of page 0."""
    links: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for (one, other), moves in shared.items():
        if not _are_strays(moves, paging):
            apart = pages[other].start - pages[one].start - moves[0]
            links[one].append((other, apart))
            links[other].append((one, -apart))
    runs: list[Run] = []
    alone = {place: None for place, page in enumerate(pages) if page.items}
    while alone:
        first = next(iter(alone))
        run, waiting = {first: 0}, [first]
        while waiting:
            place = waiting.pop()
            alone.pop(place, None)
            for other, apart in links[place]:
                if other not in run:
                    run[other] = run[place] + apart
                    waiting.append(other)
        runs.append(run)
    return runs


def _read_end(pages: Sequence[PageRow], part: Part, ground: Ground, paging: Paging) -> NextReads:
    """All pages are connected: is the end among them, and was it read last?"""
    shown = [page for page in pages if page.items]
    if not shown:
        return NextReads(complete=True)
    last = shown[-1]
    ends = [
        page
        for page in shown
        if page.sent < paging.page_size
        and (page is last or page.count is None or page.start + page.sent >= page.count)
    ]
    met = part == "newest" and any(item in ground for page in pages for item in page.items)
    if not ends and not met and last.start < paging.offset_cap:
        return NextReads(starts=(_beyond(last, {page.start for page in pages}, paging),))
    if not ends and part == "whole":
        return NextReads(over_reach=True)
    joining = shown[0] if part == "newest" else max(ends or [last], key=lambda page: page.wave)
    if any(page.wave >= joining.wave for page in shown if page is not joining):
        return NextReads(starts=(joining.start,))
    return NextReads(complete=True)


def _beyond(last: PageRow, present: set[int], paging: Paging) -> int:
    """The offset behind the last full page; smaller if the list has become shorter."""
    start = min(last.start + paging.stride, paging.offset_cap)
    while start in present and start > 0:
        start = max(start - paging.page_size // 2, 0)
    return start
