"""What an import did: counts for the screen, and a file that names all that it could not use."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from furnisync.errors import ConfigError, UserError

SHORT = "sources that brought too little"
"""What is counted of sources of which fewer than half came."""
_HELD_BACK = 1000
_FIELDS = frozenset({"source", "entry", "what", "reason"})
_LONGEST_LINE = 100_000
_REASONS_MAX = 20
_OTHER_REASONS = "other reasons"


@dataclass
class _Tally:
    """Rows, entries or files of a source: how many there were, and how many were lost why."""

    read: int = 0
    lost: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


class Report:
    """Counters, and one JSON object a line for each thing that was left out, with its reason.

    The file is written anew by each import; it exists only where there is something to say. Only a
    report of an earlier import makes room for it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self.left_out = 0
        """Lines in the file."""
        self._tallies: dict[str, _Tally] = {}
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        if self.path.exists() and not _is_report(self.path):
            raise ConfigError(
                f"{self.path} holds something else than a report: name another place with --report."
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

    def count(self, what: str, number: int = 1) -> None:
        """So many more of that."""
        self.counts[what] += number

    def read(self, source: str, number: int) -> None:
        """A source has so many more rows, entries or files."""
        self._tally(source).read += number

    def lose(self, source: str, reason: str, number: int = 1) -> None:
        """So many of them could not be used; what follows a colon in the reason is one case's."""
        reason = reason.partition(": ")[0]
        tally = self._tally(source)
        tally.lost += number
        known = reason in tally.reasons or len(tally.reasons) < _REASONS_MAX
        tally.reasons[reason if known else _OTHER_REASONS] += number

    def _tally(self, source: str) -> _Tally:
        return self._tallies.setdefault(source, _Tally())

    def tell_short(self) -> list[str]:
        """A sentence for each source of which fewer than half came, also in the file.

        What is here already counts as come: a second import is not short of anything.
        """
        sentences = []
        for source, tally in self._tallies.items():
            came = max(tally.read - tally.lost, 0)
            if 2 * came < tally.read:
                why = ", ".join(f"{n:,} x {reason}" for reason, n in tally.reasons.most_common())
                reason = f"{came:,} of {tally.read:,} came ({why})"
                self.leave_out(SHORT, source, "", reason)
                sentences.append(f"{source}: {reason}")
        return sentences

    def leave_out(self, what: str, source: str, entry: object, reason: str) -> None:
        """Something was not used: count it as `what` and name it in the file.

        Raises:
            UserError: the file cannot be written.
        """
        self.counts[what] += 1
        self.left_out += 1
        line = {"source": source, "entry": str(entry)[:500], "what": what, "reason": reason}
        try:
            if self._file is None:
                self._file = self.path.open("w", encoding="utf-8")
            self._file.write(json.dumps(line) + "\n")
            if self.left_out % _HELD_BACK == 0:
                self._file.flush()
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written ({error.strerror}): free some disk, or name another"
                " place with --report."
            ) from error


def _is_report(path: Path) -> bool:
    """Whether the first line is one of ours; an empty file is of a disk that was full."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        line = file.readline(_LONGEST_LINE)
    try:
        return not line or json.loads(line).keys() == _FIELDS
    except (ValueError, AttributeError):
        return False
