"""Whole images of every kind are taken, parts of them never."""

import contextlib
import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.faulty_cdn import GIF, JPEG, PNG, WEBP, encoded, noise, png_of_size, with_random_data

from furnisync.image_job import ReasonCode
from furnisync.store.image_format import NotAnImage, Picture, inspect_image

MANY = 10**9

sides = st.integers(1, 70)
seeds = st.integers(0, 5)


def exif_with_thumbnail():
    """EXIF whose second directory holds a whole JPEG, as cameras write it."""
    thumbnail = encoded("JPEG", noise(16, 16), quality=60)
    first = struct.pack("<HHHII", 1, 0x0112, 3, 1, 1) + struct.pack("<I", 26)
    second = struct.pack("<H", 2)
    second += struct.pack("<HHII", 0x0201, 4, 1, 26 + 2 + 24 + 4)
    second += struct.pack("<HHII", 0x0202, 4, 1, len(thumbnail)) + struct.pack("<I", 0)
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + first + second + thumbnail


@st.composite
def jpegs(draw):
    image = noise(
        draw(sides), draw(sides), draw(st.sampled_from(["RGB", "L", "CMYK"])), draw(seeds)
    )
    options = {
        "quality": draw(st.sampled_from([5, 75, 100])),
        "progressive": draw(st.booleans()),
        "optimize": draw(st.booleans()),
    }
    if image.mode == "RGB":
        options["subsampling"] = draw(st.integers(0, 2))
    if draw(st.booleans()):
        options["exif"] = exif_with_thumbnail()
    if draw(st.booleans()):
        options["restart_marker_blocks"] = 2
    if draw(st.booleans()):
        options["comment"] = b"\xff\xd9\xff\xda" * 3
    return "jpg", image.size, encoded("JPEG", image, **options)


@st.composite
def pngs(draw):
    mode = draw(st.sampled_from(["RGB", "RGBA", "L", "LA", "1", "P", "I;16"]))
    size = draw(sides), draw(sides)
    if mode in ("1", "I;16"):
        image = noise(*size, "L", draw(seeds)).convert("1" if mode == "1" else "I;16")
    else:
        image = noise(*size, mode, draw(seeds))
    return "png", size, encoded("PNG", image, compress_level=draw(st.integers(0, 9)))


@st.composite
def gifs(draw):
    size = draw(sides), draw(sides)
    frames = [noise(*size, draw(st.sampled_from(["P", "L"])), seed) for seed in range(3)]
    options = {}
    if draw(st.booleans()):
        options = {"save_all": True, "append_images": frames[1:], "loop": 0, "duration": 50}
    options["interlace"] = draw(st.integers(0, 1))
    return "gif", size, encoded("GIF", frames[0], **options)


@st.composite
def webps(draw):
    size = draw(sides), draw(sides)
    mode = draw(st.sampled_from(["RGB", "RGBA"]))
    frames = [noise(*size, mode, seed) for seed in range(3)]
    options = {"lossless": draw(st.booleans()), "quality": 50, "method": 0}
    if draw(st.booleans()):
        options |= {"save_all": True, "append_images": frames[1:], "duration": 50}
    if draw(st.booleans()):
        options["exif"] = exif_with_thumbnail()
    return "webp", size, encoded("WEBP", frames[0], **options)


images = st.one_of(jpegs(), pngs(), gifs(), webps())


@settings(deadline=None)
@given(images, st.binary(max_size=20))
def test_whole_image_is_accepted_with_its_size(image, trailing):
    extension, (width, height), body = image
    expected = Picture(extension, width, height)
    assert inspect_image(body, MANY) == expected
    assert inspect_image(body + trailing, MANY) == expected


@settings(deadline=None)
@given(images, st.data())
def test_every_strict_prefix_is_refused(image, data):
    _, _, body = image
    ends = data.draw(st.lists(st.integers(0, len(body) - 1), min_size=20, max_size=20))
    for end in (*ends, len(body) - 1, len(body) - 2):
        with pytest.raises(NotAnImage):
            inspect_image(body[:end], MANY)


@pytest.mark.parametrize("body", [JPEG, PNG, WEBP, GIF], ids=["jpg", "png", "webp", "gif"])
def test_each_single_prefix_is_refused_as_truncated(body):
    for end in range(len(body)):
        with pytest.raises(NotAnImage) as caught:
            inspect_image(body[:end], MANY)
        assert caught.value.reason.code is ReasonCode.TRUNCATED or end < 16


@given(st.binary(max_size=300))
def test_any_bytes_raise_nothing_else(body):
    for head in (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\x80\0\0\0WEBP"):
        with contextlib.suppress(NotAnImage):
            inspect_image(head + body, MANY)


@settings(deadline=None)
@given(images, st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8))
def test_damaged_bytes_raise_nothing_else(image, damages):
    body = bytearray(image[2])
    for at, value in damages:
        body[at % len(body)] = value
    with contextlib.suppress(NotAnImage):
        inspect_image(bytes(body), MANY)


def test_random_data_behind_a_good_header_is_refused():
    whole = encoded("JPEG", noise(570, 600))
    for seed in range(100):
        with pytest.raises(NotAnImage, match="coded data"):
            inspect_image(with_random_data(whole, seed), MANY)


def test_pixel_limit_is_inclusive():
    assert inspect_image(png_of_size(1000, 1000), 1_000_000).width == 1000
    with pytest.raises(NotAnImage, match="too many pixels: 1,001 x 1,000"):
        inspect_image(png_of_size(1001, 1000), 1_000_000)


def test_bomb_is_refused_without_decoding():
    with pytest.raises(NotAnImage, match="too many pixels"):
        inspect_image(png_of_size(2**31 - 1, 2**31 - 1), 150_000_000)


@pytest.mark.parametrize("size", [(0, 10), (10, 0), (0, 0)])
def test_no_pixels(size):
    with pytest.raises(NotAnImage, match="pixels"):
        inspect_image(png_of_size(*size), MANY)


def test_changed_pixel_of_a_png_is_noticed():
    body = bytearray(PNG)
    body[len(body) // 2] ^= 1
    with pytest.raises(NotAnImage, match="checksum"):
        inspect_image(bytes(body), MANY)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "empty"),
        (b"<html>", "HTML"),
        (b"\xef\xbb\xbf\n <!DOCTYPE html>", "HTML"),
        (b"<?xml version='1.0'?><Error/>", "XML"),
        (b"<?xml version='1.0'?><svg/>", "SVG"),
        (b'{"a": 1}', "JSON"),
        (b"[]", "JSON"),
        (b"gone", "text"),
        (b"%PDF-1.7", "PDF"),
        (b"\0\0\0\x20ftypavif\0\0\0\0", "AVIF"),
        (b"\0\1\2\3", "unknown bytes"),
    ],
)
def test_what_came_instead_is_named(body, named):
    with pytest.raises(NotAnImage, match=f"not an image: {named}") as caught:
        inspect_image(body, MANY)
    assert caught.value.reason.code is ReasonCode.NOT_AN_IMAGE


def test_end_that_comes_too_early_for_so_many_pixels_is_refused():
    scan = JPEG.index(b"\xff\xda") + 14
    with pytest.raises(NotAnImage, match="coded data"):
        inspect_image(JPEG[:scan] + b"\x12\xff\xd9" + JPEG[scan:], MANY)


def test_plainest_pictures_are_accepted():
    """The fewest bits that a block can take."""
    for side in (8, 100, 1000):
        for mode in ("L", "RGB"):
            body = encoded("JPEG", Image.new(mode, (side, side)), optimize=True)
            assert inspect_image(body, MANY) == Picture("jpg", side, side)


def test_second_picture_behind_the_first_is_tolerated():
    """Multi-picture JPEGs of cameras: the first counts."""
    second = encoded("JPEG", noise(20, 10))
    assert inspect_image(JPEG + second, MANY) == Picture("jpg", 60, 40)


def test_pillow_agrees_that_the_samples_are_images():
    for body in (JPEG, PNG, WEBP, GIF):
        with Image.open(io.BytesIO(body)) as image:
            image.load()
