"""What may be asked: hosts, ports, and the many ways to hide one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furnisync.download.url_policy import refusal, shown_host

ETSY = frozenset({"i.etsystatic.com"})
URL = "https://i.etsystatic.com/123/r/il/0a1b2c/456/il_570xN.456_ab1c.jpg"


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        (URL, ETSY),
        ("http://i.etsystatic.com/x", ETSY),
        ("https://I.EtsyStatic.com/x?a=b&c=%20d#e", ETSY),
        ("https://i.etsystatic.com:8443/x", ETSY),
        ("https://i.etsystatic.com", ETSY),
        ("https://i.etsystatic.com/@/://x", ETSY),
        ("http://localhost/x", {"localhost:80"}),
        ("https://localhost/x", {"localhost:443"}),
        ("http://localhost:8000/x", {"localhost:8000"}),
        ("http://127.0.0.1:8000/x", {"127.0.0.1:8000"}),
        ("http://[::1]:8000/x", {"[::1]:8000"}),
    ],
)
def test_allowed(url, hosts):
    assert refusal(url, frozenset(hosts)) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "i.etsystatic.com/x",
        "//i.etsystatic.com/x",
        "file:///etc/passwd",
        "ftp://i.etsystatic.com/x",
        "https:/i.etsystatic.com/x",
        "https:///i.etsystatic.com/x",
        "https://evil.example/i.etsystatic.com",
        "https://i.etsystatic.com.evil.example/x",
        "https://evil-i.etsystatic.com/x",
        "https://i.etsystatic.com./x",
        "https://.i.etsystatic.com/x",
        "https://i.etsystatic.com@evil.example/x",
        "https://user@i.etsystatic.com/x",
        "https://user:word@i.etsystatic.com/x",
        "https://evil.example#@i.etsystatic.com/x",
        "https://evil.example\\@i.etsystatic.com/x",
        "https://i.etsystatic.com\\@evil.example/x",
        "https://i.etsystatic.com%2eevil.example/x",
        "https://i.etsystatic.com%00.evil.example/x",
        "https://i.etsystatic.com:0/x",
        "https://i.etsystatic.com:65536/x",
        "https://i.etsystatic.com:/x",
        "https://i.etsystatic.com:80:80/x",
        "https://i.etsystatic.com:+80/x",
        "https://i.etsystatic.com/a b",
        " https://i.etsystatic.com/a",
        "https://i.etsystatic.com/a\n",
        "https://i.etsystatic.com/a\r\nX-Evil: 1",
        "https://i.etsystatic.com/\t",
        "https://i.etsystatic.com/\0",
        "https://i.etsystatic.com/\x7f",
        "https://i.etsystatic.com/\u00e4",
        "https://\u0456.etsystatic.com/x",
        "https://i\u3002etsystatic.com/x",
        "https://i.etsystatic.com/" + "a" * 2000,
        "http://127.1/x",
        "http://2130706433/x",
        "http://[::ffff:127.0.0.1]/x",
    ],
)
def test_refused_with_a_reason(url):
    assert refusal(url, ETSY)


def test_port_of_an_entry_counts():
    assert refusal("http://localhost:8001/x", frozenset({"localhost:8000"})).words == (
        "host refused: localhost:8001 is not in ETSY_CDN_HOSTS"
    )
    assert refusal("https://localhost/x", frozenset({"localhost:80"}))


@given(st.text(max_size=80))
def test_shown_host_is_safe_to_print(text):
    for url in (text, f"http://{text}", f"{URL}{text}"):
        shown = shown_host(url)
        assert shown.isascii()
        assert shown.isprintable()
        assert 0 < len(shown) <= 100


@given(st.text(max_size=40), st.text(max_size=40))
def test_only_our_host_is_ever_between_slashes(before, after):
    url = f"https://{before}i.etsystatic.com{after}"
    if refusal(url, ETSY) is None:
        rest = url.partition("://")[2]
        assert rest.lower().startswith("i.etsystatic.com")
        assert rest[16:17] in ("", "/", "?", "#", ":")
