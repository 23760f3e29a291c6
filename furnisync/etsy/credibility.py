"""Half answers of batch: told from whole ones though it is not documented what `count` counts."""

from collections import Counter
from collections.abc import Sequence

from furnisync.errors import ApiUnavailable
from furnisync.etsy.models import Listing, Page, WholePage, decode_page, decode_whole_page

BELIEVED_AFTER = 3
"""So many answers that lack listings, all the same, are taken as they are."""


class CountMeaning:
    """Whether batch's `count` was seen to count what came, which is not documented."""

    def __init__(self) -> None:
        self.counts_what_came = False


class BatchAnswers:
    """The answers to one batch; one that lacks or repeats listings is asked for again.

    Absence means 'gone', so half an answer must not be taken for a whole one. But if `count`
    counts what was asked, one listing that is gone makes every answer look like half of one. So
    where the same listings come again and again they are all that there are, unless an answer
    has shown before that `count` leaves out what is gone.
    """

    def __init__(self, asked: int, meaning: CountMeaning) -> None:
        self._asked = asked
        self._meaning = meaning
        self._lacking: Counter[frozenset[object]] = Counter()

    def decode(self, body: bytes) -> Page[Listing]:
        """What discovery needs."""
        page = decode_page(body, Listing)
        ids = [one.listing_id for one in page.items]
        self._doubt(page.count, page.sent, ids)
        if len(set(ids)) < len(ids):
            raise ApiUnavailable("an answer that repeats listings in place of others")
        return page

    def decode_whole(self, body: bytes) -> WholePage:
        """All fields."""
        page = decode_whole_page(body)
        ids = [str(one.get("listing_id")) for one in page.results]
        self._doubt(page.count, len(page.results) + page.broken, ids)
        return page

    def _doubt(self, count: int | None, sent: int, ids: Sequence[object]) -> None:
        if count is None:
            return
        if 0 < sent == count < self._asked:
            self._meaning.counts_what_came = True
        if count <= sent:
            return
        came = frozenset(ids)
        self._lacking[came] += 1
        if self._meaning.counts_what_came or self._lacking[came] < BELIEVED_AFTER:
            raise ApiUnavailable(f"half an answer: {sent} of {count} listings")
