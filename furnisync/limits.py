"""Fixed limits of Etsy's API, as documented or as users saw them. Rate limits come from headers."""

from dataclasses import dataclass
from typing import Final

__all__ = ["ABSENT_BELIEVED_AFTER", "BELIEVED_AFTER", "ETSY_PAGING", "Paging", "retry_wait"]

BELIEVED_AFTER: Final = 3
"""After this many answers with the same fault it is believed; see `etsy/credibility.py`."""
ABSENT_BELIEVED_AFTER: Final = 2
"""A listing that a list named counts as gone after batch left it out this many times."""
RETRY_FIRST_S: Final = 3600
RETRY_MOST_S: Final = 7 * 24 * 3600


def retry_wait(failures: str) -> str:
    """SQL for the seconds that an item waits which has failed this often in a row: 1 h to a week.

    `failures` is an SQL expression, the number before this failure.
    """
    return f"min({RETRY_FIRST_S} << min({failures}, 10), {RETRY_MOST_S})"


@dataclass(frozen=True, slots=True)
class Paging:
    """How far a list can be paged; passed to the pure rules, so that tests can use small pages.

    Attributes:
        page_size: maximum of results in a page and of ids in a batch call.
        offset_cap: the largest offset that Etsy serves.
        overlap: results that neighboring pages share, so that as many may end in between.
    """

    page_size: int = 100
    offset_cap: int = 12_000
    overlap: int = 2

    @property
    def stride(self) -> int:
        """Distance between the offsets of two pages."""
        return self.page_size - self.overlap

    @property
    def reach(self) -> int:
        """Maximum of results that one query shows."""
        return self.offset_cap + self.page_size


ETSY_PAGING: Final = Paging()
