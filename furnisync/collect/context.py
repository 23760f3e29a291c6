"""What the parts of a round of data sync share: the way to Etsy and to the history, the counts."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec

from furnisync.clock import Clock
from furnisync.config import DataSettings
from furnisync.etsy.client import EtsyClient
from furnisync.history import schedule
from furnisync.history.schema_drift import FieldWatch
from furnisync.history.selection import Selection
from furnisync.sqlite import Writer

Call = Callable[[], Awaitable[None]]

RETRY_S = 3600.0
"""What failed is tried again after this."""
REFILL = 100
"""So many due shops are looked up at once."""


class Collected(msgspec.Struct):
    """Counts of one round."""

    shops: int = 0
    listings: int = 0
    reviews: int = 0
    gone: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Round:
    """One round; make a new one for each.

    Attributes:
        top: only the so many shops with most furniture listings.
        watch: sees the objects of all answers; may be that of earlier rounds too.
        collected: grows as the round goes on.
    """

    client: EtsyClient
    writer: Writer
    clock: Clock
    settings: DataSettings
    selection: Selection
    cadence: schedule.Cadence
    top: int | None
    watch: FieldWatch
    collected: Collected = field(default_factory=Collected)

    async def now(self) -> float:
        """Unix time for what goes into the history: waited for while our clock is hours off.

        Raises:
            ClockWrong, Transient, Terminal, UserError: as `ClockCheck.trusted_now`.
        """
        return await self.client.clock.trusted_now()
