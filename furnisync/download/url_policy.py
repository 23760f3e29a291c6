"""Which addresses may be requested: urls come from listings, that is, from anybody.

One strict pattern checks them, and not `urllib.parse`: where two parsers (Python's here, curl's
when it connects) read one odd url differently, such a check can be bypassed. What the pattern
accepts has one reading only.
"""

import re

from furnisync.image_job import ImageReason, ReasonCode

__all__ = ["refusal", "shown_host"]

MAX_LENGTH = 2_000
DEFAULT_PORTS = {"http": 80, "https": 443}

# No userinfo, no percent-encoded host, no backslash, nothing but printable ASCII.
_URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?:[/?#][!-\[\]-~]*)?",
    re.IGNORECASE,
)
_ODD = re.compile(r"[^!-\[\]-~]")


def refusal(url: str, allowed_hosts: frozenset[str]) -> ImageReason | None:
    """Say why `url` must not be requested; None where it may.

    Args:
        url: as the API or a redirect named it.
        allowed_hosts: `host` (any port) or `host:port`, in lower case.
    """
    if len(url) > MAX_LENGTH:
        return _refused(f"{len(url):,} characters")
    match = _URL.fullmatch(url)
    if match is None:
        if _ODD.search(url):
            return _refused("spaces, control characters, backslashes or non-ASCII in it")
        return _refused("not a plain http or https address")
    scheme, host = match["scheme"].lower(), match["host"].lower()
    port = int(match["port"]) if match["port"] else DEFAULT_PORTS[scheme]
    if not 0 < port < 65536:
        return _refused(f"port {port}")
    if host in allowed_hosts or f"{host}:{port}" in allowed_hosts:
        return None
    return ImageReason(ReasonCode.HOST_REFUSED, shown_host(url))


def _refused(detail: str) -> ImageReason:
    return ImageReason(ReasonCode.URL_REFUSED, detail)


def shown_host(url: str) -> str:
    """The host (and port) of any text that should be a url, short and safe to print."""
    _, found, rest = url.partition("://")
    host = re.split(r"[/?#\\]", rest, maxsplit=1)[0].rpartition("@")[2] if found else ""
    return re.sub(r"[^A-Za-z0-9.:\[\]-]", "?", host[:100]) or "an unreadable address"
