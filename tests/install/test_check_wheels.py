"""`make check-wheels` against an index of our own, over real HTTP and on the disk."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from packaging.requirements import Requirement

from tools.check_wheels import Indexes, NoAnswer, missing_wheels, read_indexes, targets

JSON = "application/vnd.pypi.simple.v1+json"
LINUX_AND_NEW_MACS = (
    "two-1.0-cp311-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "two-1.0-cp311-abi3-manylinux_2_28_aarch64.whl",
    "two-1.0-cp311-abi3-macosx_11_0_arm64.whl",
    "two-1.0-cp311-abi3-macosx_14_0_x86_64.whl",
    "two-1.0.tar.gz",
)
PAGES = {
    "one": (JSON, json.dumps({"files": [{"filename": "one-2.0-py3-none-any.whl"}]})),
    "two": (JSON, json.dumps({"files": [{"filename": name} for name in LINUX_AND_NEW_MACS]})),
    "taken-back": (
        JSON,
        json.dumps({"files": [{"filename": "taken_back-1.0-py3-none-any.whl", "yanked": "bad"}]}),
    ),
    "plain": (
        "text/html",
        (
            '<a href="/f/plain-1.0%2Bours-py3-none-any.whl#sha256=0">plain</a>'
            '<a href="/f/plain-2.0-py3-none-any.whl" data-yanked="">plain</a>'
            '<a href="../old-name.whl">older than the form of names</a>'
        ),
    ),
}


class Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name = self.path.strip("/").rpartition("/")[2]
        kind, body = PAGES.get(name, ("text/plain", ""))
        self.send_response(500 if name == "broken" else 200 if body else 404)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def url():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/simple"
    server.shutdown()
    server.server_close()


def lacking(url: str, line: str) -> list[str]:
    pin = Requirement(line)
    return missing_wheels(pin, Indexes((url,), None).wheels(pin.name), list(targets()))


def test_a_wheel_for_every_platform_is_enough(url):
    assert lacking(url, "one==2.0") == []
    assert len(lacking(url, "one==1.0")) == 12, "of another version"


def test_what_has_no_wheel_for_older_intel_macs_is_named(url):
    assert lacking(url, "two==1.0") == [
        f"Python 3.{minor} on darwin x86_64" for minor in (11, 12, 13)
    ]


def test_markers_leave_out_where_a_pin_is_not_installed(url):
    assert lacking(url, "two==1.0 ; platform_machine != 'x86_64'") == []
    assert lacking(url, "two==1.0 ; python_full_version >= '3.13'") == [
        "Python 3.13 on darwin x86_64"
    ]
    assert lacking(url, "two==9.9 ; sys_platform == 'win32'") == []


def test_a_wheel_that_was_taken_back_does_not_count(url):
    assert len(lacking(url, "plain==2.0")) == 12
    with pytest.raises(NoAnswer):
        lacking(url, "taken_back==1.0")


def test_a_page_without_json_is_read_too(url):
    assert lacking(url, "plain==1.0+ours") == []


@pytest.mark.parametrize("name", ["unknown", "broken"])
def test_no_answer_is_told(url, name):
    with pytest.raises(NoAnswer):
        lacking(url, f"{name}==1.0")
    with pytest.raises(NoAnswer):
        lacking("http://127.0.0.1:1/simple", f"{name}==1.0")


def test_an_index_on_the_disk_is_asked_as_well(url, tmp_path):
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "index.html").write_text('<a href="f/local-1-py3-none-any.whl">x</a>')
    indexes = Indexes((url, tmp_path.as_uri()), None)
    assert missing_wheels(Requirement("local==1"), indexes.wheels("local"), list(targets())) == []


def test_the_index_is_the_one_of_pip(url, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", url)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "http://127.0.0.1:1/a http://127.0.0.1:1/b")
    assert read_indexes().urls == (url, "http://127.0.0.1:1/a", "http://127.0.0.1:1/b")
    monkeypatch.delenv("PIP_INDEX_URL")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    (default, *_) = read_indexes().urls
    assert default.startswith("https://"), "what pip itself names"
