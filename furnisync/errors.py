"""Every error that furnisync raises on purpose.

    FurnisyncError
    ├── UserError                 wrong input or environment: one sentence with its remedy, exit 2
    │   ├── ConfigError           a setting, a config file, a command line
    │   ├── KeyRefused            Etsy refused the API key
    │   ├── AlreadyRunning        another instance works on the same home
    │   ├── LocksUnsupported      the home's file system has no file locks
    │   ├── MissingExtra          packages that only some commands need are not installed
    │   ├── NoRoom                the disk is full: works again once space is free
    │   ├── NotHere               a disk is not mounted: works again once it is
    │   └── DatabaseUnusable      newer version, no database, damaged, not ours
    │       ├── DatabaseFull      no space to open it; also a NoRoom
    │       └── DatabaseOutdated  older version: its writer migrates it when it starts
    ├── Transient                 marker: worth another try
    │   ├── NoResponse            the network: no whole HTTP answer came
    │   ├── ApiUnavailable        reset, time-out, 5xx, malformed body
    │   │   └── DoubtfulAnswer    a sound answer whose content is probably false
    │   └── RateLimited           429, with its retry-after
    ├── GaveUp                    a run has waited long enough: exit 1
    │   ├── ClockWrong            our clock is hours off
    │   └── UpstreamDown          the API or the image server is broken
    └── Terminal                  marker: another try would fail in the same way
        ├── NotFound              404: the object does not exist (any more)
        ├── BadRequest            400 and other requests that Etsy refuses
        └── ItemRefused           401, 403, 429 for this item, while others are answered

Two markers decide every retry: `Transient` and `Terminal`. Errors of libraries are translated
where they enter (`http/`, `sqlite/`), never further in.
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
    "DoubtfulAnswer",
    "FurnisyncError",
    "GaveUp",
    "ItemRefused",
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
    "UpstreamDown",
    "UserError",
    "is_disk_full",
]


class FurnisyncError(Exception):
    """Base of all errors of this package."""


class UserError(FurnisyncError):
    """A problem that only the user can fix; the message is one sentence that names the remedy."""


class ConfigError(UserError):
    """A setting, a config file or a command line is wrong."""


class AlreadyRunning(UserError):
    """Another process holds the lock of this job on this home."""


class LocksUnsupported(UserError):
    """The file system of a home has no file locks, so nothing may be written there."""


class MissingExtra(UserError, ImportError):
    """Packages that only some commands need are not installed; `extras.py` names the remedy."""


class NoRoom(UserError):
    """The disk is full; nothing else is wrong."""


class NotHere(UserError):
    """The home or its image folder is away, most likely a disk that is not mounted."""


class DatabaseUnusable(UserError):
    """A database file is of a newer version, damaged, not ours or no database at all."""


class DatabaseFull(DatabaseUnusable, NoRoom):
    """A database needs free space on its disk to be opened."""


class DatabaseOutdated(DatabaseUnusable):
    """A database opened for reading is of an older version, or is being created."""


class Transient(FurnisyncError):
    """Another try may succeed."""


class Terminal(FurnisyncError):
    """Another try would fail in the same way."""


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
    """The API could not be reached, or answered with 5xx or a malformed body.

    Attributes:
        kind: of failure, as `circuit_breaker.Outage` has it.
    """

    def __init__(self, message: str, kind: str = "server_error") -> None:
        super().__init__(message)
        self.kind = kind


class DoubtfulAnswer(ApiUnavailable):
    """The API works, but what it answered is probably false: it is requested again."""


class RateLimited(Transient):
    """The API answered 429.

    Attributes:
        counted: the answer says how many calls are left, so that it is about the key.
    """

    def __init__(self, message: str, *, counted: bool) -> None:
        super().__init__(message)
        self.counted = counted


class GaveUp(FurnisyncError):
    """What a run waited for did not come within its patience."""


class ClockWrong(GaveUp):
    """Our clock is hours off Etsy's."""


class UpstreamDown(GaveUp):
    """The API or the image server is broken."""


class NotFound(Terminal):
    """The requested object does not exist (404)."""


class BadRequest(Terminal):
    """Etsy refuses this request (400 and other 4xx)."""


class ItemRefused(Terminal):
    """Etsy refuses this item (401, 403 or 429), while the key and other items work."""


def is_disk_full(error: OSError) -> bool:
    """Whether the error means a full disk or a used-up disk quota."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}
