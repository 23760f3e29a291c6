"""What a downloader may do."""

import msgspec

from furnisync import __version__
from furnisync.config import Environment, ImageSettings, Mode
from furnisync.download.sizes import least_width

__all__ = ["DownloadLimits", "download_limits"]


class DownloadLimits(msgspec.Struct, frozen=True):
    """Limits of a downloader.

    Attributes:
        connections: transfers at one time.
        per_second: transfers begun a second, evenly spread; 0 for no limit.
        max_bytes: a longer body is cut off and refused.
        max_pixels: an image of more pixels is refused (undecoded).
        timeout_s: for one transfer, from its beginning to its last byte.
        allowed_hosts: `host` (any port) or `host:port`, in lower case.
        user_agent: the only header that says who asks.
        stall_s: a transfer that hardly moves for so long ends.
        least_width: an image of fewer pixels in width is doubted: it is fetched again.
    """

    connections: int
    per_second: float
    max_bytes: int
    max_pixels: int
    timeout_s: float
    allowed_hosts: frozenset[str]
    user_agent: str
    stall_s: int = 20
    least_width: int = 0


def download_limits(
    settings: ImageSettings, mode: Mode, environment: Environment
) -> DownloadLimits:
    """The downloader's limits in a mode."""
    slow = mode == "slow"
    return DownloadLimits(
        connections=settings.slow_connections if slow else settings.fast_connections,
        per_second=settings.slow_per_second if slow else settings.fast_per_second,
        max_bytes=settings.max_bytes,
        max_pixels=settings.max_pixels,
        timeout_s=settings.timeout_s,
        allowed_hosts=environment.cdn_hosts,
        user_agent=f"furnisync/{__version__}",
        least_width=least_width(settings.size),
    )
