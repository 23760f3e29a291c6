"""Certificate authorities of our own, trusted by the API's way and the CDN's alike."""

import pytest
from support.local_network import Origin, hashed_folder, make_certificate, server_tls


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("tls"), "DNS:localhost", "IP:127.0.0.1")


@pytest.fixture
def origin(certificate):
    with Origin(tls=server_tls(*certificate)) as found:
        yield found


def test_an_unknown_authority_is_refused_in_words(fetch, origin):
    assert fetch(origin.url()).startswith("certificate refused: ")
    assert origin.requests == []


def test_a_file_of_authorities(fetch, origin, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    assert fetch(origin.url()) is None


def test_a_folder_of_authorities(fetch, origin, certificate, monkeypatch, tmp_path):
    folder = hashed_folder(certificate[0], tmp_path / "trusted é")
    monkeypatch.setenv("SSL_CERT_DIR", f"/missing:{folder}")
    assert fetch(origin.url()) is None


def test_another_authority_is_not_enough(fetch, origin, monkeypatch, tmp_path):
    other, _ = make_certificate(tmp_path, "IP:127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    assert fetch(origin.url()).startswith("certificate refused: ")


def test_a_certificate_for_another_host_is_refused(fetch, monkeypatch, tmp_path):
    pair = make_certificate(tmp_path, "DNS:elsewhere.test")
    monkeypatch.setenv("SSL_CERT_FILE", str(pair[0]))
    with Origin(tls=server_tls(*pair)) as origin:
        assert fetch(origin.url()).startswith("certificate refused: ")
        assert origin.requests == []


def test_a_server_that_speaks_no_tls(fetch):
    with Origin() as origin:
        assert fetch(f"https://{origin.at}/").startswith("TLS failed: ")
