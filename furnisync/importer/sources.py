"""Finds the older tool's files, and reads the ones that are JSON."""

import filecmp
import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import ijson
import msgspec

from furnisync import durable
from furnisync.config import OLDER_TOOL, HomeFiles, ImageSize
from furnisync.errors import ConfigError
from furnisync.history.fields.values import as_id
from furnisync.history.schema import APPLICATION_ID
from furnisync.importer.database import as_time
from furnisync.importer.metadata_forms import BrokenEntry, SourceListing, read_entry
from furnisync.importer.report import DAMAGED_SOURCES, Reason, Report

log = logging.getLogger("furnisync.import")

_PROGRESS_EVERY: Final = 1000
_PLACES: Final = ("", "data/db", "data")
_INDEX: Final = "-shm"
_DATABASE_FILES: Final = ("-journal", "-wal", _INDEX, "")
"""What belongs to a database, as it moves: the logs first, as without them it looks complete."""
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
"""Some editors write it."""


class Sources(msgspec.Struct, frozen=True):
    """The files to import, None where there is none."""

    metadata: tuple[Path, ...] = ()
    images: tuple[Path, ...] = ()
    database: Path | None = None
    progress: Path | None = None
    plan: Path | None = None

    @property
    def found(self) -> bool:
        """Whether there is any."""
        return any((self.metadata, self.images, self.database, self.progress))


def find_sources(folder: Path, files: HomeFiles, *, dry: bool) -> Sources:
    """The older tool's files in a folder, by the names that it used.

    In the home itself, files whose names we need are set aside first, unless it is `dry`.

    Raises:
        ConfigError: there is no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder: name the one that the older tool worked in.")
    aside = files.home / OLDER_TOOL
    at_home = folder.resolve() == files.home
    if at_home and not dry:
        _set_aside(files, aside)
    places = [folder / place for place in _PLACES]
    if at_home:
        places.insert(0, aside)
    metadata = _existing(places, files.metadata.name)
    databases = _existing(places, files.history.name)
    plans = _existing(places, files.plan.name)
    suffix = "_test" if files.test else ""
    found = Sources(
        metadata=_one_of_each(metadata) if at_home else tuple(metadata[:1]),
        images=tuple(path for path in (folder / files.images.name,) if path.is_dir()),
        database=next((path for path in databases if not is_ours(path)), None),
        progress=next(iter(_existing(places, f"sync_progress{suffix}.json")), None),
        plan=None if at_home else next(iter(plans), None),
    )
    if not found.found:
        raise ConfigError(
            f"{folder} holds neither {files.metadata.name} nor {files.images.name}/ nor an older"
            f" {files.history.name}: name the folder that the older tool worked in."
        )
    return found


def _existing(places: list[Path], name: str) -> list[Path]:
    return [path for place in places if (path := place / name).is_file()]


def _one_of_each(paths: list[Path]) -> tuple[Path, ...]:
    """Files without their copies: what was set aside is often still there too."""
    different: list[Path] = []
    for path in paths:
        if not any(filecmp.cmp(path, other, shallow=False) for other in different):
            different.append(path)
    return tuple(different)


def is_ours(database: Path) -> bool:
    """Whether a database is our history, by the mark in its header."""
    with database.open("rb") as file:
        return file.read(72)[68:] == APPLICATION_ID.to_bytes(4, "big")


def _set_aside(files: HomeFiles, aside: Path) -> None:
    """Keep what would be overwritten: the metadata gets a second name, the database moves."""
    if files.metadata.is_file() and not (aside / files.metadata.name).exists():
        aside.mkdir(exist_ok=True)
        try:
            os.link(files.metadata, aside / files.metadata.name)
        except OSError:
            durable.copy(files.metadata, aside / files.metadata.name)
    old = files.history
    wal = old.with_name(f"{old.name}-wal")
    if (old.is_file() and not is_ours(old)) or (wal.exists() and not old.exists()):
        aside.mkdir(exist_ok=True)
        names = [f"{old.name}{ending}" for ending in _DATABASE_FILES]
        moves = [(path, aside / name) for name in names if (path := old.with_name(name)).exists()]
        for path, target in moves:
            if target.exists() and not target.name.endswith(_INDEX):
                raise ConfigError(
                    f"{path} and {target} are both the older tool's: move one of them away,"
                    " or import it alone with --history."
                )
        for path, target in moves:
            path.rename(target)
        log.info("the older tool's %s is in %s now", old.name, aside)


def read_metadata(
    path: Path, size: ImageSize, report: Report, progress: Callable[[int], None]
) -> Iterator[SourceListing]:
    """Stream `image_metadata.json`; broken entries go to the report.

    Args:
        path: the file.
        size: CDN size of the urls that are made.
        report: takes broken entries, and where the file ends early.
        progress: takes the bytes read so far, from time to time.

    Raises:
        ConfigError: it is not a JSON object at all.
    """
    with path.open("rb") as file:
        head = file.read(4096)
        if head.removeprefix(_BYTE_ORDER_MARK).lstrip()[:1] != b"{":
            raise ConfigError(
                f"{path} is not a JSON object: name the older tool's image_metadata.json."
            )
        file.seek(len(_BYTE_ORDER_MARK) if head.startswith(_BYTE_ORDER_MARK) else 0)
        last: object = "the beginning"
        try:
            # Numbers stay exact: one that is too long is a broken entry, not damage.
            for key, value in ijson.kvitems(file, ""):
                last = key
                if report.read(path.name) % _PROGRESS_EVERY == 0:
                    progress(file.tell())
                try:
                    yield read_entry(key, value, size)
                except BrokenEntry as broken:
                    where = (path.name, key)
                    report.leave_out("broken entries", where, broken.reason, broken.detail, 1)
        except ijson.JSONError as error:
            why = " ".join(str(error).split())[:200]
            report.leave_out(DAMAGED_SOURCES, (path.name, f"after {last}"), Reason.DAMAGED, why)


class SourceProgress(msgspec.Struct, frozen=True):
    """The content of `sync_progress.json`.

    Attributes:
        shops: whose listings were all read.
        at: when, unix seconds; None if it does not say.
        intervals: how many intervals of the crawl plan the tool had read, by its own judgement.
    """

    shops: tuple[int, ...]
    at: int | None
    intervals: int


def read_progress(path: Path, report: Report) -> SourceProgress:
    """Read `sync_progress.json`; one that cannot be read is reported and empty."""
    try:
        content: Any = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        report.leave_out(DAMAGED_SOURCES, (path.name, ""), Reason.DAMAGED, str(error))
        return SourceProgress((), None, 0)
    content = content if isinstance(content, dict) else {}
    shops = content.get("synced_shops")
    ids = [as_id(one) for one in shops] if isinstance(shops, list | dict) else []
    units = content.get("exhausted")
    return SourceProgress(
        tuple(one for one in ids if one is not None and one > 0),
        as_time(content.get("last_shop_refresh")),
        len(units) if isinstance(units, list) else 0,
    )
