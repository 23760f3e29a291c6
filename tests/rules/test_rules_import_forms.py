"""Entries of `image_metadata.json`, one by one and at random."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furnisync.download.sizes import size_of
from furnisync.importer.metadata_forms import BrokenEntry, SourceImage, read_entry, read_rows
from furnisync.store.image_format import Picture

URL = "https://i.etsystatic.com/9/r/il/ab12/77/il_570xN.77_xy9z.jpg"


def images(value):
    return [(one.image_id, one.rank, one.url) for one in read_entry("5", value, "570xN").images]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (77, [(77, 1, "")]),
        ("1234567890", [(1234567890, 1, "")]),
        ({"image_id": 77, "shop_id": 9}, [(77, 1, "")]),
        ({"image_id": 77, "shop_id": 9, "hex": "ab12", "suffix": "xy9z"}, [(77, 1, URL)]),
        ({"image_id": 77, "shop_id": 9, "hex": "../", "suffix": "xy9z"}, [(77, 1, "")]),
        ({"image_id": 77, "shop_id": 9, "hex": "ab12", "suffix": None}, [(77, 1, "")]),
        (
            {"image_id": 77, "shop_id": None, "hex": "ab12", "suffix": "q"},
            [(77, 1, "https://i.etsystatic.com/il/ab12/77/il_570xN.77_q.jpg")],
        ),
        (
            {"shop_id": 9, "images": [{"image_id": 1}, {"image_id": 2, "is_primary": True}]},
            [(2, 1, ""), (1, 2, "")],
        ),
        ({"shop_id": 9, "images": [{"image_id": 1}, {"image_id": 1}]}, [(1, 1, "")]),
        ({"shop_id": 9, "images": [{"image_id": 9999999999}]}, []),
        ({"shop_id": 9, "images": [{"image_id": 3, "rank": 4, "url": URL}]}, [(3, 4, URL)]),
        ({"shop_id": 9, "images": [{"image_id": 3, "url": "javascript:x"}]}, [(3, 1, "")]),
        ({"image_id": 9999999999, "shop_id": 9}, []),
        ("404", []),
        ({"shop_id": 9, "images": []}, []),
    ],
)
def test_images_of_each_form(value, expected):
    assert images(value) == expected


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("404", "404"),
        ("no_images", "no_images"),
        ("http_500", "http_500"),
        ({"image_id": 9999999999, "shop_id": 9}, "download failed"),
        (9999999999, "download failed"),
        (77, None),
    ],
)
def test_words(value, word):
    assert read_entry("5", value, "570xN").word == word


def test_only_a_list_of_images_is_complete():
    assert read_entry("5", {"shop_id": 9, "images": [{"image_id": 1}]}, "570xN").complete
    assert not read_entry("5", {"shop_id": 9, "image_id": 1}, "570xN").complete
    assert not read_entry("5", {"shop_id": 9, "images": [{"image_id": 1}, 0]}, "570xN").complete


def test_a_broken_image_leaves_the_others():
    one = read_entry("5", {"shop_id": 9, "images": [{"hex": "a"}, {"image_id": 2}]}, "570xN")
    assert [image.image_id for image in one.images] == [2]
    assert len(one.broken) == 1


@pytest.mark.parametrize("key", ["", "x", "-4", "0", "12 ", "1e3", "99999999999999999999", None])
def test_keys_that_are_no_ids(key):
    with pytest.raises(BrokenEntry):
        read_entry(key, 77, "570xN")


@pytest.mark.parametrize(
    "value",
    [None, True, 1.5, 0, -3, [], {}, "", " ", {"when_made": "x"}, 10**30, {"image_id": "x"}],
)
def test_values_that_say_nothing(value):
    with pytest.raises(BrokenEntry):
        read_entry("5", value, "570xN")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["image_id", "shop_id", "images", "hex", "suffix", "url", "rank"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(st.text(max_size=4) | st.integers(1, 10**12).map(str), anything)
def test_whatever_stands_there_it_is_read_or_refused(key, value):
    try:
        one = read_entry(key, value, "570xN")
    except BrokenEntry:
        return
    assert one.listing_id > 0
    assert all(0 < image.image_id < 2**63 and image.rank > 0 for image in one.images)
    assert len({image.image_id for image in one.images}) == len(one.images)
    assert all(image.url == "" or image.url.startswith("http") for image in one.images)


def test_rows_of_image_status():
    rows = [
        {"listing_id": 5, "image_id": 2, "is_primary": 1, "url": URL, "download_done": 2},
        {"listing_id": 5, "image_id": 3, "is_primary": 0, "url": URL, "download_done": -1},
    ]
    one = read_rows(5, rows, "570xN")
    assert one.images == (SourceImage(2, 1, URL), SourceImage(3, 2, URL, gone=True))
    assert one.complete
    listing_only = read_rows(5, [{"listing_id": 5, "image_id": 0, "shop_id": 9}], "570xN")
    assert (listing_only.shop_id, listing_only.images, listing_only.complete) == (9, (), False)


@pytest.mark.parametrize(
    ("width", "height", "wanted", "size"),
    [
        (570, 713, "570xN", "570xN"),
        (570, 713, "fullxfull", "570xN"),
        (170, 135, "570xN", "170x135"),
        (75, 75, "570xN", "75x75"),
        (1588, 10, "570xN", "1588xN"),
        (3000, 2000, "570xN", "fullxfull"),
        (400, 300, "570xN", "570xN"),
        (1000, 300, "570xN", "794xN"),
        (600, 300, "1140xN", "1140xN"),
        (60, 60, "75x75", "75x75"),
    ],
)
def test_the_size_is_told_by_the_pixels(width, height, wanted, size):
    assert size_of(Picture("jpg", width, height), wanted) == size
