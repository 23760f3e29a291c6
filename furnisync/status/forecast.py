"""How much disk the images of all listings will take, before they are here. Pure."""

import msgspec

from furnisync.config import ImageSize

__all__ = ["DiskForecast", "forecast_disk"]

BYTES_OF_SIZE: dict[ImageSize, int] = {
    "75x75": 4_000,
    "170x135": 8_000,
    "570xN": 50_000,
    "794xN": 90_000,
    "1140xN": 160_000,
    "1588xN": 280_000,
    "fullxfull": 600_000,
}
"""Of an image, with what the file system wastes, until some were measured."""
IMAGES_OF_LISTING = 7.0
MEASURED_FROM = 200
"""So many images, or listings, say more than these figures; or half of all."""


class DiskForecast(msgspec.Struct, frozen=True):
    """The disk that images will take.

    Attributes:
        needed_bytes: by the images that are missing, of all listings that are known or counted.
        free_bytes: on the disk of the image folder.
    """

    needed_bytes: int
    free_bytes: int

    @property
    def fits(self) -> bool:
        """Whether the disk will do."""
        return self.needed_bytes <= self.free_bytes


def forecast_disk(
    listings: int,
    size: ImageSize,
    free_bytes: int,
    *,
    sample: tuple[int, int],
    here: tuple[int, int],
) -> DiskForecast:
    """Forecast the disk.

    Args:
        listings: that are known or counted.
        size: of the images.
        free_bytes: on the disk.
        sample: listings whose images are known, and the number of these images.
        here: images that are stored, and their bytes.
    """
    with_images, images = sample
    done, done_bytes = here
    measured = with_images and with_images >= min(MEASURED_FROM, listings / 2)
    expected = listings * (images / with_images if measured else IMAGES_OF_LISTING)
    measured = done and done >= min(MEASURED_FROM, expected / 2)
    image_bytes = done_bytes / done if measured else BYTES_OF_SIZE[size]
    left = max(0.0, expected - done)
    return DiskForecast(round(left * image_bytes), free_bytes)
