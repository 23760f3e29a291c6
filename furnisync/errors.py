"""Every error that furnisync raises on purpose.

    FurnisyncError
    ├── UserError                 wrong input or surroundings: one sentence with its remedy, exit 2
    │   ├── ConfigError           a setting, a config file, a command line
    │   ├── KeyRefused            Etsy refused the API key
    │   ├── AlreadyRunning        another instance works on the same home
    │   ├── LocksUnsupported      the home's file system has no file locks
    │   ├── MissingExtra          packages that only some commands need are not installed
    │   ├── NoRoom                the disk is full: the same works once there is room
    │   ├── NotHere               a disk is not mounted: the same works once it is
    │   └── DatabaseUnusable      newer version, no database, damaged, not ours
    │       ├── DatabaseFull      no room to open it; a NoRoom too
    │       └── DatabaseOutdated  older version: who writes it renews it when it starts
    ├── Transient                 marker: worth another try
    │   ├── NoResponse            the network: no whole HTTP answer came
    │   ├── ApiUnavailable        reset, time-out, 5xx, malformed body
    │   └── RateLimited           429, with its retry-after
    ├── ClockWrong                our clock is hours off, and was waited for in vain
    └── Terminal                  marker: another try would end the same
        ├── NotFound              404: what was asked for does not exist (any more)
        └── BadRequest            400 and whatever else Etsy will not answer

Two markers decide every retry: `Transient` and `Terminal`. Errors of libraries are translated
where they enter (`http/`, `sqlite.py`), never further in.
"""

import errno
from collections.abc import Mapping

__all__ = [
    "AlreadyRunning",
    "ApiUnavailable",
    "BadRequest",
    "ClockWrong",
    "ConfigError",
    "DatabaseFull",
    "DatabaseOutdated",
    "DatabaseUnusable",
    "FurnisyncError",
    "KeyRefused",
    "LocksUnsupported",
    "MissingExtra",
    "NoResponse",
    "NoRoom",
    "NotFound",
    "NotHere",
    "RateLimited",
    "Terminal",
    "Transient",
    "UserError",
    "is_disk_full",
]


class FurnisyncError(Exception):
    """Base of all errors of this package."""


class UserError(FurnisyncError):
    """Something only the user can mend; the message is one sentence that names the remedy."""


class ConfigError(UserError):
    """A setting, a config file or a command line is wrong."""


class AlreadyRunning(UserError):
    """Another process holds the lock of this job on this home."""


class LocksUnsupported(UserError):
    """The file system of a home has no file locks, so that nothing may be written there."""


class MissingExtra(UserError, ImportError):
    """Packages that only some commands need are not installed; `extras.py` names the remedy."""


class NoRoom(UserError):
    """The disk is full; nothing but room is missing."""


class NotHere(UserError):
    """The home or its image folder is away, most likely a disk that is not mounted."""


class DatabaseUnusable(UserError):
    """A database file is of a newer version, damaged, not ours or no database at all."""


class DatabaseFull(DatabaseUnusable, NoRoom):
    """A database needs room on its disk to be opened."""


class DatabaseOutdated(DatabaseUnusable):
    """A database that is only read here is of an older version, or just being made."""


class Transient(FurnisyncError):
    """Another try may succeed."""


class Terminal(FurnisyncError):
    """Another try would end the same."""


class KeyRefused(UserError):
    """Etsy refused the API key (401 or 403)."""


class NoResponse(Transient):
    """No whole HTTP answer came; the message says why.

    Attributes:
        status: of the part that came; 0 where none did.
        headers: of that part, names in lower case.
    """

    def __init__(
        self, message: str, status: int = 0, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


class ApiUnavailable(Transient):
    """The API could not be reached, or answered with 5xx or with what is no answer."""


class RateLimited(Transient):
    """The API answered 429.

    Attributes:
        retry_after_s: seconds to wait as the server told it; None where it told nothing.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ClockWrong(FurnisyncError):
    """Our clock is hours off Etsy's; a run that ends has waited for it long enough."""


class NotFound(Terminal):
    """What was asked for does not exist (404)."""


class BadRequest(Terminal):
    """Etsy will not answer this request (400 and other 4xx)."""


def is_disk_full(error: OSError) -> bool:
    """Whether the system says that there is no room, or that the user's share of it is used."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}
