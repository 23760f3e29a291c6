"""Pictures that came for images of many shops: a server that stands in for some of its images?

`CdnGate` notices when everything is the same picture. A server that sends a placeholder for some
images only is noticed here, by a bounded memory of what came. The picture may also be one that many
shops use. So its images are kept, it is told once, and they are fetched once more a day later:
what comes the same again is taken as it is.
"""

import logging
from collections import OrderedDict
from collections.abc import Iterable

from furnisync.circuit_breaker import SUSPECT_AFTER
from furnisync.image_job import ImageOutcome

__all__ = ["RepeatedPictures"]

log = logging.getLogger("furnisync.download")

PICTURES_REMEMBERED = 20_000
IMAGES_REMEMBERED = 50
"""Of a picture that is not doubted yet; a shop's size chart comes with each of its listings."""

Key = tuple[int, int]


class RepeatedPictures:
    """Remembers which images brought which picture; for use from one thread."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, tuple[set[int], list[Key]]] = OrderedDict()
        self._told = False

    def doubt(self, outcomes: Iterable[ImageOutcome]) -> list[Key]:
        """Take what came.

        Returns:
            the images that are doubtful since now; some came earlier.
        """
        doubtful: list[Key] = []
        for one in outcomes:
            shop_id, sha256 = one.job.shop_id, one.sha256
            if sha256 is None or shop_id is None or sha256 == one.job.held:
                continue
            shops, keys = self._seen.setdefault(sha256, (set(), []))
            self._seen.move_to_end(sha256)
            if len(self._seen) > PICTURES_REMEMBERED:
                self._seen.popitem(last=False)
            if len(shops) < SUSPECT_AFTER:
                shops.add(shop_id)
            if len(keys) < IMAGES_REMEMBERED:
                keys.append(one.job.key)
            if len(shops) == SUSPECT_AFTER:
                self._tell(one)
                doubtful += keys
                keys.clear()
        return doubtful

    def _tell(self, outcome: ImageOutcome) -> None:
        if not self._told:
            self._told = True
            log.warning(
                "the same picture came for images of %d shops, such as image %d of listing %d: they"
                " are fetched once more in a day, in case it is a placeholder",
                SUSPECT_AFTER,
                outcome.job.image_id,
                outcome.job.listing_id,
            )
