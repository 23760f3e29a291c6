"""Scripted faults, as a client meets them."""

from __future__ import annotations

import hashlib
import http.client
import io
import socket
import time
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import pytest
from PIL import Image

from furnisync.sandbox.process import SandboxError
from furnisync.sandbox.server.faults import Faults


def ask(bent, **rule):
    bent.sandbox.set_faults([{"where": "api", "call": "listings/active", **rule}])
    return bent.api("listings/active?limit=20&taxonomy_id=967")


@pytest.fixture(scope="module")
def images(loose):
    return loose.sandbox.truth_images(digests=False)


def fetch(bent, images, number=0, **rule):
    bent.sandbox.set_faults([{"where": "cdn", **rule}])
    return bent.url(images[number]["urls"]["570xN"])


# -- API -------------------------------------------------------------------------------------


def test_500_is_json_and_503_is_html(bent):
    reply = ask(bent, do="500")
    assert (reply.status, list(reply.json)) == (500, ["error"])
    reply = ask(bent, do="503", retry_after=3)
    assert (reply.status, reply.headers["retry-after"]) == (503, "3")
    assert reply.headers["content-type"].startswith("text/html")


def test_429_with_and_without_headers(bent):
    reply = ask(bent, do="429", retry_after=86_400, headers=False)
    assert (reply.status, reply.headers["retry-after"]) == (429, "86400")
    assert "x-limit-per-day" not in reply.headers
    assert bent.sandbox.asked()["refused"] == 0  # none of the limits' own


@pytest.mark.parametrize("do", ["reset", "reset_mid_body"])
def test_resets(bent, do):
    with pytest.raises((ConnectionError, http.client.HTTPException, OSError)):
        ask(bent, do=do)
    assert bent.api("openapi-ping").status == 200
    assert bent.sandbox.asked()["calls"]["listings/active"] == {do: 1}


def test_hang_and_slow(bent):
    bent.sandbox.set_faults([{"where": "api", "do": "hang"}])
    connection = http.client.HTTPConnection(urlsplit(bent.sandbox.api_url).netloc, timeout=0.3)
    key = {"x-api-key": f"{bent.sandbox.key}:{bent.sandbox.secret}"}
    connection.request("GET", "/v3/application/openapi-ping", headers=key)
    with pytest.raises(TimeoutError):
        connection.getresponse()
    began = time.monotonic()
    assert ask(bent, do="slow", seconds=0.3).status == 200
    assert time.monotonic() - began >= 0.3


def test_broken_json(bent):
    with pytest.raises(ValueError, match=r"Unterminated|Expecting|Invalid"):
        _ = ask(bent, do="malformed_json").json
    assert "results" not in ask(bent, do="no_results").json
    assert ask(bent, do="null_results").json["results"] is None
    assert ask(bent, do="wrong_types").json["results"][0]["listing_id"] == "not-a-number"
    emptied = ask(bent, do="null_fields").json["results"][0]
    assert emptied["listing_id"]
    assert emptied["title"] is None


def test_counts_that_are_off_and_duplicates(bent):
    assert ask(bent, do="count_off", by=-7).json["count"] == 593
    assert ask(bent, do="count_off", factor=1.1).json["count"] == 660
    found = [one["listing_id"] for one in ask(bent, do="duplicates").json["results"]]
    assert len(found) == 20
    assert len(set(found)) == 18
    assert len(ask(bent, do="missing_items").json["results"]) == 18


def test_absent_headers(bent):
    reply = ask(bent, do="no_rate_headers")
    assert reply.status == 200
    assert not [name for name in reply.headers if name.startswith("x-")]


def test_odd_dates(bent):
    assert not ask(bent, do="no_date").headers["date"]
    told = parsedate_to_datetime(ask(bent, do="odd_date", seconds=-7200).headers["date"])
    assert -7260 < told.timestamp() - bent.sandbox.now() < -7140


def test_which_requests_a_rule_strikes(bent):
    bent.sandbox.set_faults([{"do": "500", "nth": [2, 4], "match": {"limit": "1"}}])
    statuses = [bent.api(f"listings/active?limit={n}").status for n in (1, 2, 1, 2, 1, 1, 1)]
    assert statuses == [200, 200, 500, 200, 200, 500, 200]
    bent.sandbox.set_faults([{"do": "500", "every": 3, "times": 1}])
    assert [bent.api("openapi-ping").status for _ in range(6)] == [200, 200, 500, 200, 200, 200]


def test_a_share_is_repeatable():
    def struck(sticky):
        faults = Faults(5)
        faults.set([{"where": "cdn", "do": "404", "share": 0.1, "sticky": sticky}])
        facts = [{"image_id": str(n)} for n in range(1000)]
        return [bool(faults.rule_for("cdn", "image", "/", f)) for f in facts]

    for sticky in (True, False):
        first = struck(sticky)
        assert first == struck(sticky)
        assert 70 < sum(first) < 130


def test_a_wrong_rule_is_refused(bent):
    with pytest.raises(SandboxError, match="cannot do"):
        bent.sandbox.set_faults([{"where": "cdn", "do": "malformed_json"}])


# -- CDN -------------------------------------------------------------------------------------


def test_statuses(bent, images):
    for status in (404, 410, 500):
        assert fetch(bent, images, do=str(status)).status == status
    reply = fetch(bent, images, do="503", retry_after=2)
    assert (reply.status, reply.headers["retry-after"]) == (503, "2")


def test_bodies_that_are_no_image(bent, images):
    assert fetch(bent, images, do="empty").body == b""
    tiny = fetch(bent, images, do="html_200")
    assert tiny.status == 200
    assert tiny.body.startswith(b"<html")
    assert len(tiny.body) < 1000
    for do in ("garbage", "cut_jpeg"):
        body = fetch(bent, images, do=do).body
        with pytest.raises(OSError, match=r"cannot identify|truncated"):
            Image.open(io.BytesIO(body)).load()


@pytest.mark.parametrize("do", ["png", "webp", "gif"])
def test_other_formats_under_the_same_name(bent, images, do):
    bodies = []
    for number in (0, 1):
        reply = fetch(bent, images, number, do=do)
        picture = Image.open(io.BytesIO(reply.body))
        picture.load()
        assert picture.format == do.upper()
        assert picture.width == 570
        bodies.append(reply.body)
    assert bodies[0] != bodies[1]


def test_truncated_and_reset(bent, images):
    with pytest.raises(http.client.IncompleteRead):
        fetch(bent, images, do="truncated")
    for do in ("reset", "reset_mid_body"):
        with pytest.raises((ConnectionError, http.client.HTTPException, OSError)):
            fetch(bent, images, do=do)
    assert fetch(bent, images, do="404", nth=[9]).status == 200


def test_endless(bent, images):
    bent.sandbox.set_faults([{"where": "cdn", "do": "endless"}])
    url = urlsplit(images[0]["urls"]["570xN"])
    with socket.create_connection(url.netloc.split(":"), timeout=5) as raw:
        raw.sendall(f"GET {url.path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        got = 0
        while got < 3_000_000:
            got += len(raw.recv(1 << 20))


def test_redirects(bent, images):
    bent.sandbox.set_faults([{"where": "cdn", "do": "redirect", "to": "self"}])
    url = urlsplit(images[0]["urls"]["570xN"])
    connection = http.client.HTTPConnection(url.netloc)
    connection.request("GET", url.path)
    response = connection.getresponse()
    response.read()
    assert (response.status, response.headers["location"]) == (302, url.path)
    bent.sandbox.set_faults([{"where": "cdn", "do": "redirect", "to": "http://10.0.0.1/x.jpg"}])
    connection.request("GET", url.path)
    assert connection.getresponse().headers["location"] == "http://10.0.0.1/x.jpg"


def test_lasting_faults_stand_in_the_truth(bent):
    bent.sandbox.set_faults(
        [
            {"where": "cdn", "do": "404", "share": 0.1, "sticky": True},
            {"where": "cdn", "do": "png", "share": 0.1, "sticky": True},
            {"where": "cdn", "do": "503", "share": 0.2},
        ]
    )
    truth = bent.sandbox.truth_images()
    kinds = {kind: [i for i in truth if i["kind"] == kind] for kind in ("gone", "png", "jpeg")}
    assert sum(map(len, kinds.values())) == len(truth)
    for kind, some in kinds.items():
        assert len(some) > len(truth) / 20
        for image in some[:5]:
            reply = bent.url(image["urls"]["570xN"])
            while reply.status == 503:
                reply = bent.url(image["urls"]["570xN"])
            if kind == "gone":
                assert reply.status == 404
            else:
                assert hashlib.sha256(reply.body).hexdigest() == image["sha256"]


def test_one_image_by_name(bent, images):
    rule = {"do": "410", "match": {"image_id": images[1]["image_id"]}}
    assert fetch(bent, images, 0, **rule).status == 200
    assert fetch(bent, images, 1, **rule).status == 410
