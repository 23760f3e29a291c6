"""What a downloader may do."""

import msgspec

__all__ = ["DownloadLimits"]


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
