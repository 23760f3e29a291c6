"""`furnisync plan`: the cost of a pass, and fitting the plan without reading everything."""

from contextlib import AsyncExitStack, closing

import msgspec

from furnisync.catalog import frontier, oversize
from furnisync.catalog.schema import open_catalog, read_catalog
from furnisync.clock import Clock
from furnisync.config import Environment, HomeFiles, Settings
from furnisync.crawl.discovery import Discovery, Scope
from furnisync.crawl.paging import page_grid
from furnisync.crawl.plan_file import load_plan, ship_plan
from furnisync.crawl.price_split import CENT, TARGET, open_ends
from furnisync.etsy.access import open_client
from furnisync.limits import ETSY_PAGING
from furnisync.lockfile import single_instance
from furnisync.sqlite.writer import Writer


class PlannedInterval(msgspec.Struct, frozen=True):
    """An interval of the plan; prices in US dollars, None is an open end.

    Attributes:
        count: listings as last counted, None if never.
        pages: calls that reading it takes; 1 if nothing is known.
        over_reach: it will be cut, or read from both ends if it is a single price.
    """

    taxonomy_id: int
    name: str
    low: float | None
    high: float | None
    count: int | None
    pages: int
    over_reach: bool

    @property
    def single_price(self) -> bool:
        """Whether it is a single price, which cannot be cut."""
        return self.low is not None and self.high is not None and self.high - self.low < 2 * CENT


class PlanCost(msgspec.Struct, frozen=True):
    """The cost of a pass over the plan."""

    intervals: tuple[PlannedInterval, ...]

    @property
    def pages(self) -> int:
        """Calls that read the lists."""
        return sum(one.pages for one in self.intervals)

    @property
    def cuts(self) -> int:
        """Additional calls for intervals to cut: a first page for each piece that is too long."""
        return sum(
            -(-(one.count or 0) // TARGET)
            for one in self.intervals
            if one.over_reach and not one.single_price
        )

    @property
    def batches(self) -> int:
        """Calls that fetch the images if all listings are new."""
        return -(-sum(one.count or 0 for one in self.intervals) // 100)


def cost_of_plan(files: HomeFiles) -> PlanCost:
    """The cost of the plan by the counts of the newest pass; makes no calls.

    Raises:
        ConfigError: the plan is wrong.
        DatabaseUnusable: the catalog is not ours.
    """
    plan = load_plan(files.plan, None)
    counts = _newest_counts(files)
    intervals = []
    for one in plan.taxonomies:
        for low, high in zip(one.price_breaks, one.price_breaks[1:], strict=False):
            ends = open_ends(low, high)
            count = counts.get(one.id, {}).get(ends)
            over_reach = (count or 0) > ETSY_PAGING.reach
            pages = -(-(count or 0) // 99) if over_reach else len(page_grid(count or 0))
            intervals.append(
                PlannedInterval(
                    one.id,
                    one.name,
                    *ends,
                    count,
                    pages,
                    over_reach,
                )
            )
    return PlanCost(tuple(intervals))


def _newest_counts(files: HomeFiles) -> dict[int, dict[tuple[float | None, float | None], int]]:
    if not files.catalog.exists():
        return {}
    with closing(read_catalog(files.catalog)) as catalog:
        newest = frontier.last_pass(catalog)
        return (
            {}
            if newest is None
            else oversize.interval_counts(catalog, newest.pass_id, read_whole=False)
        )


async def make_plan(
    environment: Environment, settings: Settings, clock: Clock, *, test: bool
) -> None:
    """Cut and merge the plan's intervals until each is in reach; the next sync continues there.

    Raises:
        UserError: no key, a wrong plan, or image sync runs.
        Transient, Terminal: Etsy did not answer.
    """
    files = HomeFiles(environment.home, test)
    ship_plan(files.plan)
    load_plan(files.plan, None)
    with single_instance(files.lock("images"), "image sync"):
        async with AsyncExitStack() as stack:
            writer = Writer(open_catalog(files.catalog), "catalog")
            stack.callback(writer.close)
            client = await stack.enter_async_context(
                open_client("images", "fast", environment, files, settings, clock)
            )
            discovery = Discovery(
                client,
                writer,
                settings,
                files,
                Scope(),
                pages_at_once=settings.api.connections,
            )
            await discovery.plan_ahead()
