"""What the parts of a round of data sync share: API client, history writer, counts."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from furnisync.clock import Clock
from furnisync.config import DataSettings
from furnisync.etsy.client import EtsyClient
from furnisync.history.fields.schema_drift import FieldWatch
from furnisync.history.fields.selection import Selection
from furnisync.outbox import Outbox
from furnisync.sqlite.writer import Writer

Call = Callable[[], Awaitable[None]]

REFILL = 100
"""Number of due shops that one query returns."""


class Collected(msgspec.Struct):
    """Counts of one round."""

    shops: int = 0
    listings: int = 0
    reviews: int = 0
    gone: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Round:
    """The context of one round; make a new one for each.

    Attributes:
        top: limits the round to this many shops, those with most furniture listings.
        outbox: where answers are left for image sync.
        inbox: image sync's outbox, which may be missing.
        watch: sees the objects of all answers; may be shared by rounds.
        collected: the counts so far.
    """

    client: EtsyClient
    writer: Writer
    clock: Clock
    settings: DataSettings
    selection: Selection
    top: int | None
    watch: FieldWatch
    outbox: Outbox
    inbox: Path
    collected: Collected = field(default_factory=Collected)

    def look(self, listings: Sequence[dict[str, Any]]) -> None:
        """Let `watch` see listings of batch, and their shops."""
        self.watch.look("listings", listings)
        shops = (one.get("shop") for one in listings)
        self.watch.look("shops", [shop for shop in shops if isinstance(shop, dict)])

    async def now(self) -> float:
        """Unix time for the history; waits while our clock is hours off.

        Raises:
            ClockWrong, Transient, Terminal, UserError: as `ClockCheck.trusted_now`.
        """
        return await self.client.clock.trusted_now()
