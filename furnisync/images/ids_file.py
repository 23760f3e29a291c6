"""`ids.txt`: listing ids or urls, one a line; blank lines and `#` comments allowed."""

import re
from pathlib import Path

import msgspec

from furnisync.errors import ConfigError

_ID = re.compile(r"([1-9]\d{0,18})", re.ASCII)
_URL = re.compile(
    r"(?:https?://)?(?:[\w-]+\.)*etsy\.com/(?:[\w-]+/)*listing/([1-9]\d{0,18})(?:[/?].*)?",
    re.ASCII | re.IGNORECASE,
)
_AROUND = " \t<>\"',;"
"""What may surround an entry that was pasted from somewhere."""
MAX_NAMED = 10


class IdsFile(msgspec.Struct, frozen=True):
    """The content of a file: its ids in order, each once, and the numbers of wrong lines."""

    ids: tuple[int, ...]
    wrong_lines: tuple[int, ...]

    def complaint(self, path: Path) -> str | None:
        """A sentence about the wrong lines, None where there are none."""
        if not self.wrong_lines:
            return None
        named = ", ".join(map(str, self.wrong_lines[:MAX_NAMED]))
        more = len(self.wrong_lines) - MAX_NAMED
        named += f" and {more} more" if more > 0 else ""
        return f"{path}: no listing id or Etsy listing url on line {named}"


def read_ids(path: Path) -> IdsFile:
    """Read an ids file.

    Raises:
        ConfigError: it cannot be read, or has no id at all.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ConfigError(f"{path} cannot be read ({why}): name a text file of ids.") from error
    ids: dict[int, None] = {}
    wrong: list[int] = []
    for number, line in enumerate(text.split("\n"), start=1):
        entry = line.split("#", 1)[0].strip(_AROUND)
        if not entry:
            continue
        found = _ID.fullmatch(entry) or _URL.fullmatch(entry)
        if found is None or int(found[1]) >= 2**63:
            wrong.append(number)
        else:
            ids[int(found[1])] = None
    result = IdsFile(tuple(ids), tuple(wrong))
    if not ids:
        raise ConfigError(
            (result.complaint(path) or f"{path} contains no listing ID or URL")
            + ": write one ID or listing URL a line."
        )
    return result
