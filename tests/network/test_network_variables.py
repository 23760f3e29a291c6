"""Proxies and certificates of the environment: what they mean, and one sentence where wrong."""

import pytest
from support.local_network import make_certificate

from furnisync.errors import ConfigError
from furnisync.http.network import Network, read_network


def test_nothing_said():
    assert read_network({}) == Network()
    assert Network().describe() == "no proxy; certificates of the system"


def test_each_scheme_has_its_proxy_and_all_proxy_the_rest():
    found = read_network({"https_proxy": "a:1", "ALL_PROXY": "socks5h://b:2"})
    assert found.proxy_for("https://x/") == "a:1"
    assert found.proxy_for("HTTPS://x/") == "a:1"
    assert found.proxy_for("http://x/") == "socks5h://b:2"


def test_lower_case_wins_and_empty_is_nothing():
    both = {"https_proxy": "a:1", "HTTPS_PROXY": "b:2", "no_proxy": "x", "NO_PROXY": "y"}
    assert read_network(both) == Network(https_proxy="a:1", no_proxy="x")
    empty = {"https_proxy": " ", "HTTPS_PROXY": "b:2", "http_proxy": "", "SSL_CERT_FILE": ""}
    assert read_network(empty) == Network(https_proxy="b:2")


def test_no_proxy_as_other_programs_write_it():
    said = "*.example.com, [::1] 10.0.0.0/8,*,.a.b"
    assert read_network({"NO_PROXY": said}).no_proxy == ".example.com,::1,10.0.0.0/8,*,.a.b"


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("ftp://user:secret@host:1", "no ftp:// proxies"),
        ("http://user:secret@host:99999", "Port number"),
        ("http://user:secret@", "No host"),
        ("http://user:secret@@host", "Bad hostname"),
        ("http://ü", "ASCII"),
    ],
)
def test_what_is_no_proxy_is_one_sentence_without_the_password(name, value, reason):
    with pytest.raises(ConfigError, match=rf"^{name} does not name a proxy \(.*{reason}") as told:
        read_network({name: value, "NO_PROXY": "*"})
    assert "socks5h://" in str(told.value)
    assert "unset it" in str(told.value)
    assert "secret" not in str(told.value)
    assert "\n" not in str(told.value)


def test_a_password_is_never_shown():
    found = read_network({"HTTPS_PROXY": "http://user:secret@host:1", "NO_PROXY": "a"})
    assert found.describe() == "proxy http://host:1/, but not for a; certificates of the system"
    assert "secret" not in f"{found} {found!r}"


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "empty"])
def test_certificates_that_cannot_be_read(tmp_path, kind):
    path = tmp_path / "ca.pem"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_text("no certificate\n" if kind == "text" else "")
    with pytest.raises(ConfigError, match=rf"^SSL_CERT_FILE is '{path}', .*: name a file of"):
        read_network({"SSL_CERT_FILE": str(path)})


def test_a_folder_of_certificates_that_is_none(tmp_path):
    (tmp_path / "file").touch()
    for value in (f"{tmp_path}/a", f"{tmp_path}/a:{tmp_path}/file"):
        with pytest.raises(ConfigError, match=r"^SSL_CERT_DIR is .*, which is not a folder: name"):
            read_network({"SSL_CERT_DIR": value})
    found = read_network({"SSL_CERT_DIR": f"{tmp_path}/a:{tmp_path}"})
    assert found.describe() == f"no proxy; certificates of {tmp_path}/a:{tmp_path}"


def test_certificates_that_can_be_read(tmp_path):
    certificate, _ = make_certificate(tmp_path, "DNS:a")
    assert read_network({"SSL_CERT_FILE": str(certificate)}).ca_file == str(certificate)
