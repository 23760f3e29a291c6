"""Urls come from anybody: hosts that are not ours are never asked, nor redirects to them."""

from __future__ import annotations

import http.server
import sqlite3
import threading
from contextlib import closing

import pytest
from support.sync_world import served

from furnisync.catalog.counters import count_rows


@pytest.fixture
def stranger():
    """A server that nobody should ask; counts who does."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.asked = asked
    yield server
    server.shutdown()
    server.server_close()


def test_redirect_elsewhere_is_never_followed(bent_home, bent, stranger):
    image = served(bent)[0]["image_id"]
    to = f"http://127.0.0.1:{stranger.server_port}/x.jpg"
    rule = {"where": "cdn", "match": {"image_id": str(image)}, "do": "redirect", "to": to}
    bent.set_faults([rule])
    ended = bent_home.sync("--fast")
    assert ended.status == 0, ended.out
    assert stranger.asked == []
    [(state, reason, detail)] = bent_home.rows(
        "SELECT status, reason, reason_detail FROM images WHERE image_id = ?", image
    )
    assert (state, reason) == ("bad", "redirect_refused")
    assert detail == f"127.0.0.1:{stranger.server_port}"
    assert [one["reason"] for one in bent_home.status()["troubles"]] == [
        f"redirect to {detail} refused"
    ]
    assert bent.asked()["cdn"]["leaked_key"] == 0


@pytest.mark.parametrize("hosts", ["i.etsystatic.com", "127.0.0.1:1", "evil.example,localhost"])
def test_hosts_that_are_not_allowed_are_never_asked(bent_home, bent, hosts):
    bent_home.env["ETSY_CDN_HOSTS"] = hosts
    ended = bent_home.sync("--fast")
    assert ended.status == 0, ended.out
    assert bent.asked()["cdn"]["total"] == 0
    status = bent_home.status()
    assert status["images"].keys() == {"bad"}
    assert {one["reason"] for one in status["troubles"]} == {
        f"host refused: {bent.cdn_host} is not in ETSY_CDN_HOSTS"
    }


def test_key_goes_to_the_api_only(bent_home, bent):
    assert bent_home.sync("--fast").status == 0
    asked = bent.asked()
    assert asked["cdn"]["total"] > 0
    assert asked["cdn"]["leaked_key"] == 0


TO_VERSION_6 = """
DROP TRIGGER listings_added;
DROP TRIGGER listings_moved;
DROP TRIGGER images_moved;
DROP TRIGGER images_summed;
DROP TRIGGER shops_added;
DROP TRIGGER shops_moved;
DROP TABLE counting_by_set;
DROP TABLE outbox_cursor;
CREATE TRIGGER images_purged BEFORE INSERT ON images BEGIN SELECT 1; END;
DROP INDEX images_trouble;
ALTER TABLE images DROP COLUMN reason_detail;
UPDATE images SET reason = 'host refused: i2.example is not in ETSY_CDN_HOSTS';
CREATE INDEX images_trouble ON images (status, reason) WHERE status IN ('gone', 'bad', 'failed');
ALTER TABLE listings DROP COLUMN batch_failures;
PRAGMA user_version = 6;
"""
"""The catalog as the version before reason codes left it."""


def test_refusals_of_an_older_version_end_when_the_settings_allow_the_host(bent_home, bent):
    bent_home.env["ETSY_CDN_HOSTS"] = "i.etsystatic.com"
    assert bent_home.sync("--fast").status == 0
    with closing(sqlite3.connect(bent_home.path / "catalog.db")) as catalog:
        catalog.executescript(TO_VERSION_6)
        count_rows(catalog)
    assert bent_home.sync("--fast").status == 0
    (trouble,) = bent_home.status()["troubles"]
    assert trouble["reason"] == "host refused: i2.example is not in ETSY_CDN_HOSTS"
    bent_home.env["ETSY_CDN_HOSTS"] = bent.cdn_host
    assert bent_home.sync("--fast").status == 0
    assert bent_home.status()["images"].keys() == {"done"}
