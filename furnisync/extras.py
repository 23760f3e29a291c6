"""Packages that only some commands need are installed by an extra: `furnisync[NAME]`."""

import sys
from importlib.util import find_spec
from typing import Final, Literal

from furnisync.errors import MissingExtra

Extra = Literal["demo", "analysis", "notices", "urls"]

MODULES: Final[dict[Extra, tuple[str, ...]]] = {
    "demo": ("aiohttp", "numpy", "PIL"),
    "analysis": ("polars", "adbc_driver_sqlite"),
    "notices": ("apprise",),
    "urls": ("fsspec",),
}
"""The modules of each extra, as in pyproject.toml."""
_PURPOSES: Final[dict[Extra, str]] = {
    "demo": "The demo and the sandbox",
    "analysis": "Frames for analysis",
    "notices": "Notices",
    "urls": "Backups to a URL",
}


def installed_extras() -> list[Extra]:
    """The extras whose modules are all installed; imports none of them."""
    return [extra for extra in MODULES if not _missing(extra)]


def require_extra(extra: Extra) -> None:
    """Check that an extra is installed, before its modules are imported.

    Raises:
        MissingExtra: it is not installed; the message has the command that installs it.
    """
    if missing := _missing(extra):
        raise MissingExtra(
            f"{_PURPOSES[extra]} need {missing[0]}, which is not installed:"
            f" run {sys.executable} -m pip install 'furnisync[{extra}]'"
        )


def _missing(extra: Extra) -> list[str]:
    return [name for name in MODULES[extra] if find_spec(name) is None]
