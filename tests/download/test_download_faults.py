"""Each way in which an image server can misbehave, and what is made of it."""

import hashlib
import shutil
import ssl
import subprocess

import pytest
from support.faulty_cdn import GIF, JPEG, PNG, WEBP, FaultyCdn

from furnisync.clock import SystemClock
from furnisync.download.downloader import download_batch
from furnisync.image_job import ImageJob


@pytest.fixture
def fetch(store, limits, jobs):
    def fetch_one(path, **changes):
        (outcome,) = download_batch(jobs(path), store, limits(**changes), SystemClock())
        return outcome

    return fetch_one


@pytest.mark.parametrize(
    ("path", "extension", "body"),
    [
        ("/ok", "jpg", JPEG),
        ("/png/il_570xN.1.jpg", "png", PNG),
        ("/webp/il_570xN.1.jpg", "webp", WEBP),
        ("/gif/il_570xN.1.jpg", "gif", GIF),
        ("/chunked/whole", "jpg", JPEG),
        ("/unsized/whole", "jpg", JPEG),
        ("/gzip", "jpg", JPEG),
        ("/hop/1", "jpg", JPEG),
        ("/hop/2", "jpg", JPEG),
    ],
)
def test_whole_image_is_stored_under_its_real_extension(fetch, store, path, extension, body):
    outcome = fetch(path)
    assert (outcome.result, outcome.reason) == ("done", None)
    assert (outcome.width, outcome.height) == (60, 40)
    assert outcome.size_bytes == len(body)
    assert outcome.sha256 == hashlib.sha256(body).digest()
    assert outcome.file == f"000/1000_0.{extension}"
    with store.open(outcome.file) as file:
        assert file.read() == body


@pytest.mark.parametrize(
    ("path", "verdict", "reason"),
    [
        ("/404", "gone", "404"),
        ("/410", "gone", "410"),
        ("/400", "failed", "400"),
        ("/401", "failed", "401: Who are you ?"),
        ("/403", "failed", "403: Request blocked. Go away."),
        ("/500", "failed", "500"),
        ("/502", "failed", "502"),
        ("/204", "failed", "204"),
        ("/206", "failed", "206"),
        ("/html", "bad", "not an image: HTML, 61 bytes"),
        ("/json", "bad", "not an image: JSON, 22 bytes"),
        ("/text", "bad", "not an image: text, 8 bytes"),
        ("/random", "bad", "not an image: broken JPEG, its coded data"),
        ("/bomb", "bad", "too many pixels: 60,000 x 60,000"),
        ("/empty", "failed", "empty body"),
        ("/half", "failed", "truncated: no end of the JPEG"),
        ("/short", "failed", f"truncated: 1,000 of {len(JPEG):,} bytes"),
        ("/chunked/broken", "failed", "truncated: 1,000 bytes"),
        ("/unsized/half", "failed", "truncated: no end of the JPEG"),
        ("/endless/", "bad", "larger than 1,000,000 bytes"),
        ("/endless/404", "gone", "404"),
        ("/announced-huge", "bad", "larger than 1,000,000 bytes"),
        ("/gzip-bomb", "bad", "larger than 1,000,000 bytes"),
        ("/reset/close", "failed", "connection closed without an answer: "),
        ("/reset/before", "failed", "connection broken: "),
        ("/reset/mid", "failed", "connection broken: "),
        ("/gzip-broken", "failed", "curl error 61: "),
        ("/nowhere", "failed", "redirect without a target"),
        ("/hop/3", "bad", "redirected more than 3 times"),
        ("/hop/9", "bad", "redirected more than 3 times"),
    ],
)
def test_fault_is_named_and_leaves_nothing(fetch, store, path, verdict, reason):
    outcome = fetch(path)
    assert outcome.result == verdict
    if reason.endswith(": "):
        assert outcome.reason.words.startswith(reason)
    else:
        assert outcome.reason.words == reason
    assert outcome.sha256 is outcome.file is None
    assert not [path for path in store.root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("path", ["/hang", "/stall"])
def test_time_limit_of_a_transfer(fetch, path):
    outcome = fetch(path, timeout_s=0.3)
    assert (outcome.result, outcome.reason.words) == ("failed", "timed out after 0.3 s")


def test_stall_ends_before_the_time_limit(fetch):
    assert fetch("/stall", timeout_s=100.0, stall_s=1).reason.words == "stalled"


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("http://evil.example/x.jpg", "evil.example"),
        ("http://127.0.0.1:1/x.jpg", "127.0.0.1:1"),
        ("//evil.example/x.jpg", "evil.example"),
        ("file:///etc/passwd", "an unreadable address"),
        ("ftp://127.0.0.1/x", "127.0.0.1"),
        ("http://{host}@evil.example/", "evil.example"),
    ],
)
def test_redirect_elsewhere_is_never_followed(fetch, cdn, target, shown):
    path = "/to/" + target.format(host=cdn.host)
    outcome = fetch(path)
    assert outcome.result == "bad"
    assert outcome.reason.words == f"redirect to {shown.format(host=cdn.host)} refused"
    assert cdn.asked() == [path]


def test_credentials_in_a_redirect_are_not_sent(fetch, cdn):
    # Newer libcurls drop them from the target; with older ones the address is refused.
    outcome = fetch(f"/to/http://user:password@{cdn.host}/ok")
    assert outcome.result == "done" or "redirect" in outcome.reason.words
    assert not [headers for _, headers in cdn.requests if "authorization" in headers]


def test_redirect_to_another_allowed_host_is_followed(fetch, cdn, limits):
    other = FaultyCdn()
    try:
        outcome = fetch(f"/to/{other.url('/ok')}", allowed_hosts=frozenset({cdn.host, other.host}))
        assert outcome.result == "done"
        assert other.asked() == ["/ok"]
    finally:
        other.close()


def test_refused_address_is_never_asked(store, limits, cdn):
    other = FaultyCdn()
    jobs = [ImageJob(1, 1, other.url("/ok")), ImageJob(1, 2, cdn.url("/ok\\x"))]
    try:
        outcomes = download_batch(jobs, store, limits(), SystemClock())
        assert {outcome.result for outcome in outcomes} == {"bad"}
        assert {outcome.reason.words for outcome in outcomes} == {
            f"host refused: {other.host} is not in ETSY_CDN_HOSTS",
            "url refused: spaces, control characters, backslashes or non-ASCII in it",
        }
        assert cdn.connections == other.connections == 0
    finally:
        other.close()


def test_nothing_but_ordinary_headers_is_sent(fetch, cdn):
    fetch("/hop/0")
    for _, headers in cdn.requests:
        assert headers == {
            "host": cdn.host,
            "user-agent": "furnisync-test",
            "accept": "*/*",
            "accept-encoding": "identity",
        }


def test_no_server_and_no_such_host(store, limits):
    # Port 9 is reserved and closed; .invalid exists nowhere.
    jobs = [ImageJob(1, 1, "http://127.0.0.1:9/a"), ImageJob(1, 2, "http://cdn.invalid/a")]
    hosts = frozenset({"127.0.0.1", "cdn.invalid"})
    outcomes = download_batch(jobs, store, limits(allowed_hosts=hosts), SystemClock())
    assert {outcome.result for outcome in outcomes} == {"failed"}
    reasons = {outcome.job.image_id: outcome.reason.words for outcome in outcomes}
    assert reasons[1].startswith("no connection: ")
    assert reasons[2].startswith("host not found: ")


def test_certificates_are_verified(store, limits, tmp_path):
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    asked = f"req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {certificate} -days 2"
    alternative = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([openssl, *asked.split(), *alternative], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    cdn = FaultyCdn(tls)
    try:
        job = ImageJob(1, 1, cdn.url("/ok"))
        given = limits(allowed_hosts=frozenset({cdn.host}))
        (outcome,) = download_batch([job], store, given, SystemClock())
        assert outcome.result == "failed"
        assert outcome.reason.words.startswith("certificate refused: ")
        assert cdn.asked() == []
    finally:
        cdn.close()
