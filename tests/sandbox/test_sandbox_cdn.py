"""The image CDN and its truth."""

from __future__ import annotations

import hashlib
import http.client
import io
from urllib.parse import urlsplit

import pytest
from PIL import Image


@pytest.fixture(scope="module")
def images(steady):
    return steady.sandbox.truth_images()


def test_every_image_is_served_as_the_truth_says(steady, images):
    host, _, port = steady.sandbox.cdn_host.partition(":")
    connection = http.client.HTTPConnection(host, int(port))
    for image in images:
        connection.request("GET", urlsplit(image["urls"]["570xN"]).path)
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200
        assert int(response.headers["content-length"]) == len(body) == image["bytes"]
        assert hashlib.sha256(body).hexdigest() == image["sha256"]
    assert len({image["sha256"] for image in images}) == len(images) > 1500
    assert steady.sandbox.asked()["cdn"]["most_connections"] <= 2


@pytest.mark.parametrize("size", ["75x75", "170x135", "570xN", "794xN", "1140xN", "1588xN"])
def test_pixel_sizes(steady, images, size):
    for image in images[:2]:
        picture = Image.open(io.BytesIO(steady.url(image["urls"][size]).body))
        picture.load()
        assert picture.format == "JPEG"
        width, _, height = size.partition("x")
        assert picture.width == int(width)
        assert height == "N" or picture.height == int(height)


def test_full_size_is_what_the_api_says(steady, images):
    found = steady.batch([image["listing_id"] for image in images[:60]], "&includes=Images")
    known = [image for one in found for image in one["images"] if image["full_width"]]
    listing = min(known, key=lambda image: image["full_width"] * image["full_height"])
    picture = Image.open(io.BytesIO(steady.url(listing["url_fullxfull"]).body))
    assert picture.size == (listing["full_width"], listing["full_height"])


def test_truth_in_another_size(steady, images):
    other = steady.sandbox.truth_images("75x75")[0]
    body = steady.url(other["urls"]["75x75"]).body
    assert hashlib.sha256(body).hexdigest() == other["sha256"] != images[0]["sha256"]


def test_the_api_gives_the_urls_of_the_truth(steady, images):
    urls = {image["image_id"]: image["urls"] for image in images}
    ids = sorted({image["listing_id"] for image in images})[:80]
    for one in steady.batch(ids, "&includes=Images"):
        for image in one["images"]:
            for size in ("75x75", "170x135", "570xN", "fullxfull"):
                assert image[f"url_{size}"] == urls[image["listing_image_id"]][size]


def test_a_url_changed_in_one_letter_is_404(steady, images):
    url = images[0]["urls"]["570xN"]
    shop, image_id = str(images[0]["shop_id"]), str(images[0]["image_id"])
    wrong = [
        url.replace(shop, str(int(shop) + 1)),
        url.replace("/il_570xN", "/il_571xN"),
        url.replace(".jpg", "a.jpg"),
        url.replace(image_id, str(int(image_id) + 1)),
        url.replace(".jpg", ".png"),
    ]
    assert [steady.url(one).status for one in wrong] == [404] * 5
    assert steady.url(url + "?version=0").status == 200


def test_a_leaked_key_is_noticed(bent):
    url = bent.sandbox.truth_images(digests=False)[0]["urls"]["75x75"]
    bent.url(url)
    assert bent.sandbox.asked()["cdn"]["leaked_key"] == 0
    bent.url(url, {"X-Api-Key": "oops"})
    asked = bent.sandbox.asked(cdn_log=True)
    assert asked["cdn"]["leaked_key"] == 1
    assert [entry["status"] for entry in asked["cdn_log"]] == ["200", "200"]


def test_images_have_the_wanted_size_about(steady, images):
    mean = sum(image["bytes"] for image in images) / len(images)
    assert 4_000 < mean < 16_000
