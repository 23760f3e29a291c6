"""The CDN's sizes: from the url of one follow the urls of the others."""

import re

from furnisync.config import SIZES, ImageSize

_SIZE_IN_URL = re.compile(r"/il_(75x75|170x135|570xN|794xN|1140xN|1588xN|fullxfull)\.")


def url_of_size(url: str, size: ImageSize) -> str:
    """The url of an image in a size; a url that is not of the CDN's pattern is left as it is."""
    return _SIZE_IN_URL.sub(f"/il_{size}.", url, count=1)


def smaller_than(size: ImageSize) -> tuple[ImageSize, ...]:
    """The sizes that a size is larger than."""
    return SIZES[: SIZES.index(size)]
