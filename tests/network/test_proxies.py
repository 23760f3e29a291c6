"""Proxies of every kind, for the API and the CDN alike, and what is reached without one."""

import asyncio

import pytest
from network_world import KEY, LIMITS
from support.local_network import Origin, Proxy, make_certificate, server_tls

from furnisync.errors import NoResponse
from furnisync.http.network import read_network
from furnisync.http.transport import CurlTransport, Request

NAMES = ("DNS:api.test", "IP:127.0.0.1", "IP:::1")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("tls"), *NAMES)


@pytest.fixture(autouse=True)
def _trusted(certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))


@pytest.fixture
def origin(certificate):
    with Origin(tls=server_tls(*certificate)) as found:
        yield found


@pytest.fixture
def proxy():
    with Proxy() as found:
        yield found


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_a_name_that_only_the_proxy_knows(fetch, origin, proxy, monkeypatch, scheme, variable):
    monkeypatch.setenv(variable, proxy.url(scheme))
    assert fetch(origin.url(host="api.test")) is None
    assert proxy.asked == [f"api.test:{origin.port}"]
    assert len(origin.requests) == 1


def test_socks5_asks_for_addresses(fetch, origin, proxy, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", proxy.url("socks5"))
    assert fetch(origin.url()) is None
    assert proxy.asked == [origin.at]


def test_plain_http_through_a_proxy(fetch, proxy, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", proxy.url())
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with Origin() as origin:
        assert fetch(origin.url(host="api.test")) is None
    assert proxy.asked == [f"api.test:{origin.port}"]


def test_a_proxy_over_tls_is_checked_too(fetch, origin, certificate, monkeypatch):
    with Proxy(server_tls(*certificate)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url())
        assert fetch(origin.url(host="api.test")) is None
        assert len(proxy.asked) == 1
        monkeypatch.delenv("SSL_CERT_FILE")
        assert fetch(origin.url(host="api.test")).startswith("certificate refused: ")
        assert len(proxy.asked) == 1


def test_the_key_is_for_the_server_only(fetch, origin, proxy, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", proxy.url())
    assert fetch(origin.url(host="api.test")) is None
    (head,) = proxy.heads
    assert b"api-key" not in head.lower()


def test_the_cdn_never_sees_the_key(fetch, origin, request):
    assert fetch(origin.url()) is None
    ((_, headers),) = origin.requests
    assert ("x-api-key" in headers) == ("api" in request.node.callspec.id)


@pytest.mark.parametrize(
    "said", ["127.0.0.1", "127.0.0.0/8", "10.0.0.0/8,127.0.0.1/32", "x.test 127.0.0.1", "*"]
)
def test_no_proxy(fetch, origin, monkeypatch, said):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    assert "proxy" in fetch(origin.url())
    monkeypatch.setenv("NO_PROXY", said)
    assert fetch(origin.url()) is None


@pytest.mark.parametrize("said", ["::1", "[::1]", "::/64", "[::1]/128"])
def test_no_proxy_for_ipv6(fetch, certificate, monkeypatch, said):
    try:
        origin = Origin(tls=server_tls(*certificate), host="::1")
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with origin:
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
        assert "proxy" in fetch(origin.url())
        monkeypatch.setenv("no_proxy", said)
        assert fetch(origin.url()) is None


@pytest.mark.parametrize("said", ["api.test", ".test", "*.test", "test"])
def test_no_proxy_for_names(fetch, origin, proxy, monkeypatch, said):
    monkeypatch.setenv("HTTPS_PROXY", proxy.url())
    monkeypatch.setenv("NO_PROXY", said)
    assert fetch(origin.url(host="api.test")).startswith("host not found: ")
    assert proxy.asked == []


def test_no_proxy_that_names_others(fetch, origin, proxy, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", proxy.url())
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8,other.test,::1")
    assert fetch(origin.url()) is None
    assert proxy.asked == [origin.at]


@pytest.mark.parametrize("status", [b"403 No", b"407 Who are you", b"502 Away"])
def test_a_proxy_that_refuses_is_named(fetch, origin, monkeypatch, status):
    with Proxy(refuse=status) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url())
        why = fetch(origin.url())
    assert why == f"no connection: CONNECT tunnel failed, response {status[:3].decode()}"


def test_headers_of_a_proxy_are_not_taken_for_the_servers(certificate, proxy):
    """It says `x-remaining-today: 1` when the tunnel stands; then the server breaks off."""
    environ = {"https_proxy": proxy.url(), "SSL_CERT_FILE": str(certificate[0])}
    answers = {"/close": lambda handler: setattr(handler, "close_connection", True)}

    async def fetch(path):
        transport = CurlTransport(read_network(environ), 1, LIMITS)
        try:
            return await transport.fetch(Request(origin.url(path), KEY))
        finally:
            await transport.close()

    with Origin(answers, tls=server_tls(*certificate)) as origin:
        assert "x-remaining-today" not in asyncio.run(fetch("/whole")).headers
        with pytest.raises(NoResponse) as told:
            asyncio.run(fetch("/close"))
    assert proxy.asked == [origin.at] * 2
    assert told.value.status == 0


def test_a_proxy_that_is_away_is_named(fetch, origin, monkeypatch):
    for scheme in ("http", "socks5", "socks5h"):
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:1")
        assert "over proxy 127.0.0.1" in fetch(origin.url())
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://proxy.invalid:1")
        assert fetch(origin.url()).startswith("proxy not found: ")


def test_what_is_no_socks_server_is_named(fetch, origin, monkeypatch):
    with Proxy(refuse=b"HTTP/1.1 400 What") as other:
        monkeypatch.setenv("ALL_PROXY", other.url("socks5"))
        assert fetch(origin.url()).startswith("proxy failed: ")
