"""What an import did: counts for the screen, and a file that names all that it could not use."""

import json
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from furnisync.errors import ConfigError, UserError

_HELD_BACK = 1000
_FIELDS = frozenset({"source", "entry", "what", "reason"})
_LONGEST_LINE = 100_000


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
