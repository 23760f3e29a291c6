"""Fixed limits of Etsy's API, as documented or as users saw them. Rate limits come from headers."""

from dataclasses import dataclass
from typing import Final

__all__ = ["ABSENT_BELIEVED_AFTER", "BELIEVED_AFTER", "ETSY_PAGING", "Paging"]

BELIEVED_AFTER: Final = 3
"""So many answers with the same fault are believed; see `etsy/credibility.py`."""
ABSENT_BELIEVED_AFTER: Final = 2
"""So often must batch leave out a listing that a list named, before it counts as gone."""


@dataclass(frozen=True, slots=True)
class Paging:
    """How far a list can be paged; passed to the pure rules, so that tests can use small pages.

    Attributes:
        page_size: results of a page at most, and ids of a batch call at most.
        offset_cap: the largest offset that is served.
        overlap: results that neighbouring pages share, so that as many may end in between.
    """

    page_size: int = 100
    offset_cap: int = 12_000
    overlap: int = 2

    @property
    def stride(self) -> int:
        """From the offset of one page to that of the next."""
        return self.page_size - self.overlap

    @property
    def reach(self) -> int:
        """So many results can one query show."""
        return self.offset_cap + self.page_size


ETSY_PAGING: Final = Paging()
