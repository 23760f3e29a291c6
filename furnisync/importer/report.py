"""The result of an import: counts for the screen, and a file that names all that was left out."""

import json
from collections import Counter
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from furnisync.errors import ConfigError, UserError

DAMAGED_SOURCES: Final = "damaged sources"
SHORT_SOURCES: Final = "sources that brought too little"
"""Label of sources of which fewer than half were imported."""
_FLUSH_EVERY: Final = 1000
_FIELDS: Final = frozenset({"source", "entry", "what", "reason"})
_DETAIL: Final = "detail"
_MAX_LINE: Final = 100_000
_MAX_ENTRY: Final = 500


class Reason(StrEnum):
    """Why something was left out. The file holds the code, the screen its words."""

    ALREADY_HERE = "already_here"
    DAMAGED = "damaged"
    EMPTY_ENTRY = "empty_entry"
    INCOMPLETE = "incomplete"
    NOT_AN_IMAGE = "not_an_image"
    NOT_A_PLAN = "not_a_plan"
    NO_ID = "no_id"
    NO_IMAGE_ID = "no_image_id"
    NO_LISTING_ID = "no_listing_id"
    NO_SHOP_ID = "no_shop_id"
    NO_SHOP_OR_IMAGE = "no_shop_or_image"
    NO_SNAPSHOT_TIME = "no_snapshot_time"
    PURGED_HERE = "purged_here"
    TOO_FEW_IMPORTED = "too_few_imported"
    UNKNOWN_COLUMN = "unknown_column"
    UNKNOWN_IMAGE_ID = "unknown_image_id"
    UNKNOWN_TABLE = "unknown_table"
    UNREADABLE = "unreadable"

    @property
    def words(self) -> str:
        """For a person."""
        return self.replace("_", " ")


class Report:
    """Counters, and one JSON object a line for each thing that was left out, with its reason.

    The file is written again by each import, and exists only if something was left out. It
    replaces nothing but the report of an earlier import.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self.left_out = 0
        """Lines in the file."""
        self._read: Counter[str] = Counter()
        self._lost: dict[str, Counter[Reason]] = {}
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        if self.path.exists() and not _is_report(self.path):
            raise ConfigError(
                f"{self.path} is not the report of an import: name another file with --report."
            )
        self.path.unlink(missing_ok=True)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def count(self, label: str, number: int = 1) -> None:
        """Add to a counter of the screen."""
        self.counts[label] += number

    def read(self, source: str, number: int = 1) -> int:
        """Count rows, entries or files that a source holds; returns how many so far."""
        self._read[source] += number
        return self._read[source]

    def leave_out(
        self,
        label: str,
        where: tuple[str, object],
        reason: Reason,
        detail: str = "",
        lost: int = 0,
    ) -> None:
        """Count something as `label` and name it in the file.

        Args:
            label: the counter of the screen.
            where: the source, and the entry in it.
            reason: why it was left out.
            detail: what the reason leaves open, such as the value.
            lost: so many rows, entries or files of the source are not imported.

        Raises:
            UserError: the file cannot be written.
        """
        source, entry = where
        self.counts[label] += 1
        self.left_out += 1
        if lost:
            self._lost.setdefault(source, Counter())[reason] += lost
        line = {"source": source, "entry": str(entry)[:_MAX_ENTRY], "what": label, "reason": reason}
        try:
            if self._file is None:
                self._file = self.path.open("w", encoding="utf-8")
            self._file.write(json.dumps({**line, _DETAIL: detail} if detail else line) + "\n")
            if self.left_out % _FLUSH_EVERY == 0:
                self._file.flush()
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written ({error.strerror}): free some disk, or name another"
                " file with --report."
            ) from error

    def short_sources(self) -> list[str]:
        """A sentence for each source of which fewer than half was imported, also in the file.

        What the home has already counts as imported.
        """
        sentences = []
        for source, lost in self._lost.items():
            read, imported = self._read[source], max(self._read[source] - lost.total(), 0)
            if 2 * imported < read:
                why = ", ".join(f"{n:,} x {reason.words}" for reason, n in lost.most_common())
                sentence = f"{imported:,} of {read:,} imported ({why})"
                self.leave_out(SHORT_SOURCES, (source, ""), Reason.TOO_FEW_IMPORTED, sentence)
                sentences.append(f"{source}: {sentence}")
        return sentences


def _is_report(path: Path) -> bool:
    """Whether the first line is one of ours; an empty file was left by a full disk."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        line = file.readline(_MAX_LINE)
    try:
        return not line or json.loads(line).keys() - {_DETAIL} == _FIELDS
    except (ValueError, AttributeError):
        return False
