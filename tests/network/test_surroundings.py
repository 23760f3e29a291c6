"""Whole programs in odd surroundings: one sentence where they are wrong, else complete."""

import signal

import pytest
from support.local_network import Origin, Proxy, forward, make_certificate, server_tls
from support.processes import FREE, ProcessHome

from furnisync.sandbox.process import SandboxProcess

FURNISYNC = ("-m", "furnisync")


@pytest.fixture(scope="module")
def sandbox():
    small = {"shops": 3, "listings": 12, "images_mean": 2, "image_bytes": 3000, "pictures": 4}
    with SandboxProcess(start_at=0, **small, **FREE) as found:
        yield found


def home(path, sandbox, **env):
    patience = {"outage_patience_s": 2.0}
    made = ProcessHome(
        path, sandbox, api={"attempts": 1, "timeout_s": 10, **patience}, images=patience
    )
    for name in ("http", "https", "all", "no"):
        made.env |= {f"{name}_proxy": "", f"{name}_PROXY".upper(): ""}
    made.env |= {"SSL_CERT_FILE": "", "SSL_CERT_DIR": "", **env}
    return made


def run(home, *arguments):
    return home.start(*arguments, command=FURNISYNC).wait()


@pytest.fixture(scope="module")
def synced(tmp_path_factory, sandbox):
    made = home(tmp_path_factory.mktemp("synced") / "home", sandbox)
    assert run(made, "images", "--fast").status == 0
    return made


WRONG = {
    "ALL_PROXY": "nonsense://x",
    "HTTPS_PROXY": "ftp://proxy:1",
    "http_proxy": "http://proxy:99999",
    "SSL_CERT_FILE": "/missing",
    "SSL_CERT_DIR": "/missing",
}


@pytest.mark.parametrize(
    ("command", "variable"),
    [
        ("doctor", "HTTPS_PROXY"),
        ("doctor", "SSL_CERT_FILE"),
        ("images --fast", "ALL_PROXY"),
        ("data --fast", "http_proxy"),
        ("plan", "SSL_CERT_DIR"),
    ],
)
def test_wrong_surroundings_are_one_sentence(synced, sandbox, command, variable):
    wrong = home(synced.path, sandbox, NO_PROXY="127.0.0.1", **{variable: WRONG[variable]})
    sandbox.reset_asked()
    ended = run(wrong, *command.split())
    assert ended.status == 2, ended.out
    told = [line for line in ended.out.splitlines() if variable in line]
    assert len(told) == 1
    assert "Traceback" not in ended.out
    assert sandbox.asked()["calls"] == {}


def test_what_asks_nobody_does_not_care(synced, sandbox):
    wrong = home(synced.path, sandbox, ALL_PROXY="ftp://x", SSL_CERT_FILE="/missing")
    assert run(wrong, "status").status == 0


def check_complete(home, sandbox):
    expected = sum(1 for row in sandbox.truth_images() if row["findable"])
    assert home.number("SELECT count(*) FROM images WHERE status='done'") == expected > 0


def test_both_programs_work_through_socks(tmp_path, sandbox):
    with Proxy() as proxy:
        made = home(tmp_path / "home", sandbox)
        del made.env["ALL_PROXY"]  # an empty one would win over the file's
        (made.path / ".env").write_text(f"ALL_PROXY={proxy.url('socks5')}\n")
        assert run(made, "images", "--fast").status == 0
        check_complete(made, sandbox)
        api = sandbox.api_url.split("/")[2]
        assert set(proxy.asked) == {api, sandbox.cdn_host}
        proxy.asked.clear()
        assert run(made, "data", "--fast").status == 0
        assert set(proxy.asked) == {api}
        proxy.asked.clear()
        made.env["NO_PROXY"] = "127.0.0.0/8"
        assert run(made, "doctor").status == 0
        assert proxy.asked == []


def test_both_ways_trust_the_same_authority(tmp_path, sandbox):
    certificate, key = make_certificate(tmp_path, "IP:127.0.0.1")
    tls = server_tls(certificate, key)
    api = sandbox.api_url.split("/")[2]
    with Origin(tls=tls, otherwise=forward(sandbox.cdn_host)) as cdn:
        to_cdn = {f"http://{sandbox.cdn_host}": f"https://{cdn.at}"}
        with Origin(tls=tls, otherwise=forward(api, **to_cdn)) as front:
            at = sandbox.api_url.replace(f"http://{api}", f"https://{front.at}")
            made = home(tmp_path / "home", sandbox, ETSY_API_URL=at, ETSY_CDN_HOSTS=cdn.at)
            ended = run(made, "images", "--fast")
            assert ended.status == 1
            assert "certificate refused" in ended.out
            assert run(made, "doctor").status == 1
            assert cdn.requests == front.requests == []
            made.env["SSL_CERT_FILE"] = str(certificate)
            assert run(made, "images", "--fast").status == 0
            check_complete(made, sandbox)
            assert not any("x-api-key" in headers for _, headers in cdn.requests)


def test_a_refused_certificate_of_the_cdn_is_named(tmp_path, sandbox):
    tls = server_tls(*make_certificate(tmp_path, "IP:127.0.0.1"))
    api = sandbox.api_url.split("/")[2]
    with Origin(tls=tls) as cdn:
        to_cdn = {f"http://{sandbox.cdn_host}": f"https://{cdn.at}"}
        with Origin(otherwise=forward(api, **to_cdn)) as front:
            at = sandbox.api_url.replace(api, front.at)
            made = home(tmp_path / "home", sandbox, ETSY_API_URL=at, ETSY_CDN_HOSTS=cdn.at)
            running = made.start("--fast")
            told = "the image server is broken: certificate refused: "
            running.until(lambda: told in running.words)
            running.signal(signal.SIGTERM)
            running.wait()
            assert made.number("SELECT count(*) FROM images WHERE status='done'") == 0


def test_notices_use_the_same_surroundings(tmp_path):
    """They are sent by a library that reads neither `.env` nor SSL_CERT_FILE by itself."""
    certificate, key = make_certificate(tmp_path, "IP:127.0.0.1")
    with Origin(tls=server_tls(certificate, key)) as inbox, Proxy() as proxy:
        made = ProcessHome(tmp_path / "home", None, notices={"urls": [f"jsons://{inbox.at}/"]})

        def send_test(*lines):
            (made.path / ".env").write_text("\n".join(lines))
            ended = run(made, "notices", "test")
            return ended.status, " ".join(ended.out.split())

        assert send_test()[0] == 1, "the authority is not known"
        assert inbox.requests == []
        trusted = f"SSL_CERT_FILE={certificate}"
        assert send_test(trusted, f"HTTPS_PROXY={proxy.url('http')}")[0] == 0
        assert proxy.asked == [inbox.at]
        status, told = send_test(trusted, f"HTTPS_PROXY={proxy.url('socks5')}")
        assert status == 1
        assert "pip install pysocks" in told
