"""Honest numbers before anything is here: the disk that images take."""

from hypothesis import given
from hypothesis import strategies as st

from furnisync.status.forecast import forecast_disk

COUNTS = st.integers(0, 10**8)


def test_before_the_first_image_it_goes_by_what_is_usual():
    found = forecast_disk(600_000, "570xN", 200 * 10**9, sample=(0, 0), here=(0, 0))
    assert 200e9 < found.needed_bytes < 220e9
    assert not found.fits


def test_what_was_measured_says_more():
    found = forecast_disk(1000, "570xN", 10**12, sample=(1000, 3000), here=(2000, 2000 * 100_000))
    assert found.needed_bytes == 1000 * 100_000
    assert found.fits


def test_a_small_dataset_that_is_here_misses_nothing():
    found = forecast_disk(30, "570xN", 10**12, sample=(30, 61), here=(61, 61 * 6_500))
    assert found.needed_bytes == 0


@given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
def test_any_numbers(listings, with_images, images, done, size):
    found = forecast_disk(listings, "fullxfull", 0, sample=(with_images, images), here=(done, size))
    assert found.needed_bytes >= 0
