"""One round of discovery: what is due of (A), (B), (C), incremental looks, and their batches.

taxonomy -> plan -> [pass | look] -> due shops          (producers of listing ids)
                        |
                        +--> batches, full ones while more is coming --> images queued
"""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from furnisync.catalog import frontier, listings, oversize, shops, taxonomy
from furnisync.catalog.listings import Listed
from furnisync.catalog.run_scope import restrict
from furnisync.catalog.schema import add_event, get_meta, set_meta
from furnisync.clock import DAY_S
from furnisync.config import HomeFiles, Settings
from furnisync.crawl.batch_reader import BatchReader
from furnisync.crawl.furniture_filter import FurnitureFilter
from furnisync.crawl.incremental import IncrementalReader, known_since
from furnisync.crawl.list_reader import ListReader, as_listed
from furnisync.crawl.oversize import count_reached
from furnisync.crawl.pass_reader import PassReader
from furnisync.crawl.plan_file import CrawlPlan, load_plan
from furnisync.crawl.shop_reader import ShopReader
from furnisync.errors import Terminal, Transient
from furnisync.etsy.client import EtsyClient
from furnisync.etsy.taxonomy import Node, Tree, flatten
from furnisync.limits import ETSY_PAGING
from furnisync.outbox import Outbox
from furnisync.sqlite.writer import Writer

log = logging.getLogger("furnisync.discover")

TAXONOMY_AT = "taxonomy_at"
RESET_AT = "reset_at"


class Scope(msgspec.Struct, frozen=True):
    """The scope of a run: everything, a number of listings, or some ids; and how literally."""

    limit: int | None = None
    ids: tuple[int, ...] | None = None
    every_shop: bool = False

    @property
    def everything(self) -> bool:
        """Whether the run is not restricted."""
        return self.limit is None and self.ids is None


def reset_shops(connection: sqlite3.Connection, now: int) -> None:
    """`--reset-shops`: mark all shops as not done; a new pass sees them all."""
    shops.forget_synced_shops(connection)
    set_meta(connection, RESET_AT, str(now))


class Discovery:
    """Finds listings and the URLs of their images."""

    def __init__(
        self,
        client: EtsyClient,
        writer: Writer,
        settings: Settings,
        files: HomeFiles,
        scope: Scope,
        pages_at_once: int,
    ) -> None:
        self._client = client
        self._writer = writer
        self._clock = client.clock
        self._settings = settings
        self._plan_path = files.plan
        self._scope = scope
        self._pages_at_once = pages_at_once
        self._began = client.clock.now()
        self._furniture: FurnitureFilter | None = None
        self._batches = BatchReader(
            client,
            writer,
            client.clock,
            settings,
            files.outbox("data"),
            restricted=not scope.everything,
        )
        self.doing = "starting"
        """The current activity, in a few words."""

    def leave_answers_in(self, outbox: Outbox) -> None:
        """Leave what batch tells for data sync, from now on."""
        self._batches.outbox = outbox

    async def run_round(self) -> bool:
        """Do everything that is due now.

        Returns:
            whether all of it succeeded; the rest stays due, with its reason.

        Raises:
            UserError: the key was refused, or the plan is wrong.
        """
        self._batches.failed = 0
        arrived, finished = asyncio.Event(), asyncio.Event()

        async def produce() -> bool:
            try:
                return await self._producer()(arrived)
            finally:
                finished.set()

        async with asyncio.TaskGroup() as group:
            producing = group.create_task(produce())
            group.create_task(self._batches.pump(arrived, finished))
        self.doing = "waiting until something is due"
        return producing.result() and not self._batches.failed

    def _producer(self) -> Callable[[asyncio.Event], Awaitable[bool]]:
        if self._scope.ids is not None:
            return self._want_ids
        if self._scope.limit is not None:
            return self._read_some
        return self._read_due

    async def seconds_to_next(self) -> float:
        """Seconds until something is due again, if nothing is due now."""
        since = await self._writer.run(known_since)
        look_s = self._settings.crawl.look_every_s
        if since is None:
            return look_s
        return max(1.0, min(look_s, since + look_s - self._clock.now()))

    # -- producers ---------------------------------------------------------------------------

    async def _want_ids(self, _: asyncio.Event) -> bool:
        self.doing = "requesting the listings of the ids file"
        assert self._scope.ids is not None
        await self._writer.run(_want_some, self._scope.ids, int(self._clock.now()))
        return True

    async def _read_some(self, arrived: asyncio.Event) -> bool:
        """`--limit`: the newest listings of the plan, up to that number."""
        assert self._scope.limit is not None
        found: set[int] = set()
        self.doing = f"reading {self._scope.limit:,} listings"
        plan = load_plan(self._plan_path, None)
        for one in plan.taxonomies:
            start = 0
            while start <= ETSY_PAGING.offset_cap and (left := self._scope.limit - len(found)) > 0:
                page = await self._client.listings_active(
                    taxonomy_id=one.id, limit=min(left, ETSY_PAGING.page_size), offset=start
                )
                listed = [as_listed(item) for item in page.items]
                await self._writer.run(_add_some, listed, int(self._clock.now()))
                found.update(item.listing_id for item in listed)
                arrived.set()
                start += ETSY_PAGING.page_size
                if not page.sent:
                    break
        return True

    async def _read_due(self, arrived: asyncio.Event) -> bool:
        """The whole job: a pass if a cycle is due, else a look; then shops that are still due."""
        tree, plan = await self._plan()
        reader = self._reader(tree, plan)
        reader.arrived = arrived
        looker = IncrementalReader(
            self._client, self._writer, self._clock, self._filter(tree, plan)
        )
        complete = await self._pass_is_due() or await self._look(looker)
        if await self._pass_is_due():
            complete = await self._read_pass(reader, looker, tree, plan)
        swept = await looker.sweep_changed() != "failed"
        return await self._read_shops(reader, tree) and swept and complete

    async def _look(self, looker: IncrementalReader) -> bool:
        """Read new listings if a look is due; if there are too many, a pass becomes due."""
        if await self.seconds_to_next() > 1.0:
            return True
        self.doing = "looking for new listings"
        outcome = await looker.look()
        if outcome == "beyond":
            log.warning("more listings are new than a look can read: all are read again")
            await self._writer.run(set_meta, RESET_AT, str(int(self._clock.now())))
        return outcome == "reached"

    async def _keep_looking(self, looker: IncrementalReader) -> None:
        """Read new listings during a pass, which may take days."""
        while True:
            await asyncio.sleep(await self.seconds_to_next())
            if await looker.look() != "reached":
                await asyncio.sleep(self._settings.crawl.look_every_s)

    async def plan_ahead(self) -> None:
        """`furnisync plan`: only make sure that each interval of the plan is in reach.

        A plan that was read completely in this cycle is. The next sync would read a pass that
        began for it to its end, and spend a month's calls too early.

        Raises:
            UserError: the key was refused, or the plan is wrong.
            Transient, Terminal: the taxonomy could not be fetched.
        """
        tree, plan = await self._plan()
        if not await self._writer.run(self._planning_is_due, plan):
            return
        reader = self._reader(tree, plan)
        await PassReader(reader, self._writer, self._clock, tree, self._plan_path).plan_ahead(plan)

    async def _plan(self) -> tuple[Tree, CrawlPlan]:
        tree = await self._tree()
        dropped = await self._writer.run(taxonomy.load_dropped)
        return tree, await asyncio.to_thread(load_plan, self._plan_path, tree, dropped)

    def _reader(self, tree: Tree, plan: CrawlPlan) -> ListReader:
        return ListReader(
            self._client, self._writer, self._clock, self._filter(tree, plan), self._pages_at_once
        )

    def _filter(self, tree: Tree, plan: CrawlPlan) -> FurnitureFilter:
        """The filter of this run; what it told once it does not tell in the next round."""
        made = FurnitureFilter(tree, [one.id for one in plan.taxonomies])
        if self._furniture is not None:
            made.left_out = self._furniture.left_out
        self._furniture = made
        return made

    async def _read_pass(
        self, reader: ListReader, looker: IncrementalReader, tree: Tree, plan: CrawlPlan
    ) -> bool:
        self.doing = "reading all of furniture"
        passes = PassReader(
            reader,
            self._writer,
            self._clock,
            tree,
            self._plan_path,
            marks_shops=not self._scope.every_shop,
        )
        await self._client.clock.trusted_now()  # the pass has a start time
        looks = asyncio.create_task(self._keep_looking(looker))
        try:
            return bool((await passes.run(plan)).complete)
        finally:
            looks.cancel()
            await asyncio.gather(looks, return_exceptions=True)

    async def _read_shops(self, reader: ListReader, tree: Tree) -> bool:
        if not self._scope.every_shop and await self._pass_is_due():
            return True  # the pass is not complete: it covers the shops when it is
        self.doing = "reading shops that are due"
        shops = ShopReader(reader, self._writer, self._clock)
        before = self._cycle_began()
        if self._scope.every_shop:
            before = max(before, self._began)  # each once in a run, even if a pass has seen it
        await shops.read_due(before)
        await self._writer.run(self._count_reached, tree)
        return not shops.failed

    def _count_reached(self, connection: sqlite3.Connection, tree: Tree) -> None:
        done = frontier.last_complete_pass(connection)
        if done is not None and oversize.out_of_reach(connection, done.pass_id):
            count_reached(connection, tree, done)

    def _cycle_began(self) -> float:
        return self._clock.now() - self._settings.crawl.cycle_days * DAY_S

    async def _pass_is_due(self) -> bool:
        return await self._writer.run(self._cycle_is_due)

    def _cycle_is_due(self, connection: sqlite3.Connection) -> bool:
        """Never complete, in progress, too long ago, or requested by `--reset-shops` since then."""
        done = frontier.last_complete_pass(connection)
        if done is None or frontier.open_pass(connection) is not None:
            return True
        reset_at = int(get_meta(connection, RESET_AT) or 0)
        return done.started_at < max(self._cycle_began(), reset_at)

    def _planning_is_due(self, connection: sqlite3.Connection, plan: CrawlPlan) -> bool:
        done = frontier.last_complete_pass(connection)
        edited = done is not None and done.plan != plan.fingerprint()
        return edited or self._cycle_is_due(connection)

    async def _tree(self) -> Tree:
        """The taxonomy, fetched once a cycle; the stored one if Etsy does not answer.

        Raises:
            ApiUnavailable, RateLimited, BadRequest: there is no stored one.
        """
        nodes = await self._writer.run(taxonomy.load_nodes)
        known = Tree(Node(*row) for row in nodes)
        asked_at = await self._writer.run(get_meta, TAXONOMY_AT)
        if nodes and asked_at is not None and int(asked_at) > self._cycle_began():
            return known
        self.doing = "fetching the taxonomy"
        try:
            fresh = flatten(await self._client.taxonomy_nodes())
        except (Transient, Terminal) as error:
            if not nodes:
                raise
            log.warning(
                "the taxonomy could not be fetched, continuing with the last one: %s", error
            )
            return known

        await self._writer.run(self._save_tree, fresh)
        return Tree(fresh)

    def _save_tree(self, connection: sqlite3.Connection, nodes: Sequence[Node]) -> None:
        """Store the tree; report nodes added to furniture or dropped from the taxonomy."""
        now = int(self._clock.now())
        rows = [(one.taxonomy_id, one.parent_id, one.name) for one in nodes]
        tree, before = Tree(nodes), Tree(Node(*row) for row in taxonomy.load_nodes(connection))
        changes = taxonomy.save_nodes(connection, rows, now)
        set_meta(connection, TAXONOMY_AT, str(now))
        root = self._settings.crawl.root_taxonomy_id
        for words, ids, home in (
            ("added", changes.added, tree),
            ("dropped", changes.dropped, before),
        ):
            named = [f"{one} {home.name(one)}" for one in ids if one in home.subtree(root)]
            if named:
                message = f"Etsy {words} taxonomy nodes: {', '.join(named)}"
                log.warning("%s", message)
                add_event(connection, now, "taxonomy", message)


def _want_some(connection: sqlite3.Connection, listing_ids: Sequence[int], now: int) -> None:
    """Restrict the run to some ids and make them due for batch, known or not."""
    restrict(connection, listing_ids)
    listings.want_batch(connection, listing_ids, now)


def _add_some(connection: sqlite3.Connection, listed: Sequence[Listed], now: int) -> None:
    """Add listings of a page, and restrict the run to them."""
    restrict(connection, (one.listing_id for one in listed))
    listings.add_listed(connection, listed, now)
