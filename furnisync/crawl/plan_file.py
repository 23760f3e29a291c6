"""`furniture_taxonomy_config.json`: the crawl plan, edited by people and the program."""

import itertools
import json
from collections.abc import Callable, Collection, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from furnisync import durable
from furnisync.crawl.price_split import open_ends
from furnisync.errors import ConfigError, NoRoom, is_disk_full
from furnisync.etsy.taxonomy import Tree

TEMPLATE = "furniture_taxonomy_config.json"


class PlannedTaxonomy(msgspec.Struct, frozen=True):
    """One entry of the plan: `price_breaks` ascend, two neighbors are the ends of an interval."""

    id: int
    name: str
    price_breaks: tuple[float, ...]

    def intervals(self) -> list[tuple[int, float | None, float | None]]:
        """(taxonomy_id, low, high) of each interval.

        The outermost ends are open, so that every price is found: no filter is
        sent for 0 and for 1,000,000.
        """
        return [(self.id, *open_ends(*ends)) for ends in itertools.pairwise(self.price_breaks)]


class CrawlPlan(msgspec.Struct, frozen=True):
    """The whole plan, entries in the file's order."""

    taxonomies: tuple[PlannedTaxonomy, ...]

    def fingerprint(self) -> str:
        """Identifies what a pass reads; cuts do not change it."""
        return ",".join(
            f"{one.id}:{one.price_breaks[0]:g}-{one.price_breaks[-1]:g}" for one in self.taxonomies
        )


def ship_plan(path: Path) -> None:
    """Write the shipped plan into a home without one, for people to edit.

    Raises:
        ConfigError: it cannot be written.
        NoRoom: the disk is full.
    """
    try:
        durable.create(path, _shipped())
    except OSError as error:
        raise (NoRoom if is_disk_full(error) else ConfigError)(
            f"{path} cannot be written ({error.strerror}): correct its folder's permissions or free"
            " some disk."
        ) from error


def _shipped() -> bytes:
    return files("furnisync.crawl").joinpath(TEMPLATE).read_bytes()


def load_plan(path: Path, tree: Tree | None, dropped: Collection[int] = frozenset()) -> CrawlPlan:
    """Read and check the plan, or the shipped one if there is none.

    Args:
        path: the file.
        tree: the taxonomy for checking ids; None if it is not known yet.
        dropped: ids that Etsy once had; their entries are skipped, because they were right
            when the user named them.

    Raises:
        ConfigError: names the file, the entry and what is wrong; the file stays untouched.
    """
    entries = _entries(path)
    taxonomies = tuple(_entry(path, place, entry) for place, entry in enumerate(entries, start=1))
    named = ", ".join(str(one.id) for one in taxonomies)
    taxonomies = tuple(one for one in taxonomies if one.id not in dropped)
    if not taxonomies:
        raise ConfigError(
            f"{path}: Etsy has dropped what it names (taxonomy {named}): name another, such as 967."
        )
    ids = [one.id for one in taxonomies]
    for one in taxonomies:
        if ids.count(one.id) > 1:
            raise ConfigError(f"{path}: taxonomy {one.id} is there twice: keep one entry of it.")
        if tree is not None and one.id not in tree:
            raise ConfigError(
                f"{path}: taxonomy {one.id} ({one.name}) is not in Etsy's seller taxonomy:"
                " correct its id or delete the entry."
            )
    return CrawlPlan(taxonomies)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes() if path.exists() else _shipped()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}).") from error


def _document(path: Path, content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path} is not JSON ({error}): repair it, or delete it to use the shipped plan."
        ) from error
    if not isinstance(document, dict) or not isinstance(document.get("taxonomies"), list):
        raise ConfigError(f'{path}: it must be an object with a list named "taxonomies".')
    return document


def _entries(path: Path) -> list[Any]:
    entries: list[Any] = _document(path, _read(path))["taxonomies"]
    if not entries:
        raise ConfigError(f'{path}: "taxonomies" is empty: name at least one, such as 967.')
    return entries


def _entry(path: Path, place: int, entry: object) -> PlannedTaxonomy:
    where = f"{path}: entry {place}"
    if not isinstance(entry, dict):
        raise ConfigError(f'{where} must be an object with "id", "name" and "price_breaks".')
    number = entry.get("id")
    if not isinstance(number, int) or isinstance(number, bool) or not 0 < number < 2**63:
        raise ConfigError(f'{where}: "id" is {number!r}, it must be a taxonomy id such as 967.')
    where += f" (taxonomy {number})"
    breaks = entry.get("price_breaks")
    if not isinstance(breaks, list) or len(breaks) < 2:
        raise ConfigError(f'{where}: "price_breaks" must be a list of at least two prices.')
    for price in breaks:
        if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < 1e12:
            raise ConfigError(
                f"{where}: the price break {price!r} is not a price in US dollars:"
                " write a number such as 49.5, without quotes."
            )
    for low, high in itertools.pairwise(breaks):
        if low >= high:
            raise ConfigError(
                f"{where}: price break {high:g} follows {low:g}: they must ascend, each once,"
                " or intervals would overlap."
            )
    return PlannedTaxonomy(number, str(entry.get("name") or number), tuple(map(float, breaks)))


def without_covered(plan: CrawlPlan, tree: Tree) -> CrawlPlan:
    """Leave out entries below another entry of the same price range.

    A query for a node shows its complete subtree, so they would be read twice.
    """

    def covered(one: PlannedTaxonomy) -> bool:
        return any(
            other is not one
            and one.id in tree.subtree(other.id)
            and other.price_breaks[0] <= one.price_breaks[0]
            and other.price_breaks[-1] >= one.price_breaks[-1]
            for other in plan.taxonomies
        )

    return CrawlPlan(tuple(one for one in plan.taxonomies if not covered(one)))


def save_cuts(path: Path, taxonomy_id: int, cuts: Sequence[float]) -> None:
    """Add price breaks to an entry, atomically; everything else in the file stays as it is.

    An entry that the user has removed since then stays removed.

    Raises:
        ConfigError: a user's edit broke the file.
        OSError: it cannot be written; the old one stays.
    """
    _save(path, taxonomy_id, lambda breaks: {*breaks, *cuts})


def save_merged(path: Path, taxonomy_id: int, dropped: Collection[float]) -> None:
    """Remove price breaks from an entry, like `save_cuts` adds them."""
    _save(path, taxonomy_id, lambda breaks: breaks - set(dropped))


def _save(path: Path, taxonomy_id: int, change: Callable[[set[float]], Collection[float]]) -> None:
    """Change the file as it is at the rename: after a concurrent edit it is read again."""
    path = path.resolve()  # a symbolic link stays one
    unchanged = False
    while not unchanged:
        before = _read(path)
        document = _document(path, before)
        for place, entry in enumerate(document["taxonomies"], start=1):
            if isinstance(entry, dict) and entry.get("id") == taxonomy_id:
                breaks = sorted(change(set(_entry(path, place, entry).price_breaks)))
                entry["price_breaks"] = [int(one) if one == int(one) else one for one in breaks]
        content = json.dumps(document, indent=2, ensure_ascii=False) + "\n"

        def place_if_unchanged(part: Path, to: Path, before: bytes = before) -> None:
            nonlocal unchanged
            unchanged = _read(to) == before
            if unchanged:
                durable.put(part, to)

        with durable.replacing(path, place=place_if_unchanged) as file:
            file.write(content.encode())
