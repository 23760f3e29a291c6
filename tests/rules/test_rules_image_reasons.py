"""Why an image is not here: a code in the catalog, words for people, and the old prose migrated."""

from __future__ import annotations

from contextlib import closing

import pytest

from furnisync.catalog import image_queue
from furnisync.catalog.schema import APPLICATION_ID, MIGRATIONS, open_catalog
from furnisync.image_job import REFUSED_BY_SETTINGS, ImageReason, ReasonCode
from furnisync.sqlite.database import open_database, transaction

NOW = 1_790_000_000
PROSE = {
    "404": ("http_status", "404"),
    "403: Request blocked. Go away.": ("http_status", "403: Request blocked. Go away."),
    "empty body": ("empty_body", ""),
    "truncated: 1,200 of 45,000 bytes": ("truncated", "1,200 of 45,000 bytes"),
    "truncated: no end of the JPEG": ("truncated", "no end of the JPEG"),
    "not an image: HTML, 61 bytes": ("not_an_image", "HTML, 61 bytes"),
    "larger than 1,000,000 bytes": ("too_large", "1,000,000"),
    "too many pixels: 60,000 x 60,000": ("too_many_pixels", "60,000 x 60,000"),
    "url refused: port 0": ("url_refused", "port 0"),
    "host refused: i2.example is not in ETSY_CDN_HOSTS": ("host_refused", "i2.example"),
    "redirect to i2.example refused": ("redirect_refused", "i2.example"),
    "redirect without a target": ("redirect_without_target", ""),
    "redirected more than 3 times": ("too_many_redirects", "3"),
    "timed out after 60 s": ("transfer_failed", "timed out after 60 s"),
    "stalled": ("transfer_failed", "stalled"),
    "no connection: Failed to connect to i2.example port 443": (
        "transfer_failed",
        "no connection: Failed to connect to i2.example port 443",
    ),
    "gone when the older tool asked": ("gone_at_import", ""),
    "damaged when a run ended": ("damaged", ""),
    "disk full": ("disk_full", ""),
    "not written: Permission denied": ("not_written", "Permission denied"),
    "the image folder is not here": ("folder_away", ""),
}
"""What version 6 of the catalog wrote, and its code and detail."""
REWORDED = {
    "not as its row said (verify)": "not_as_recorded",
    "an altered picture stood for it": "replaced_by_altered",
}


@pytest.fixture
def migrated(tmp_path):
    """A catalog of version 6 with an image for each prose, all bad, and one without; renewed."""
    path = tmp_path / "catalog.db"
    with closing(open_database(path, APPLICATION_ID, MIGRATIONS[:6])) as old:
        old.executemany(
            "INSERT INTO images (listing_id, image_id, rank, url, status, reason)"
            " VALUES (1, ?, 1, 'https://i/', 'bad', ?)",
            enumerate([*PROSE, *REWORDED, None]),
        )
    with closing(open_catalog(path)) as catalog:
        yield catalog


def test_the_prose_of_an_older_version_becomes_codes(migrated):
    rows = migrated.execute("SELECT reason, reason_detail FROM images ORDER BY image_id")
    expected = [*PROSE.values(), *((code, "") for code in REWORDED.values()), (None, None)]
    assert [tuple(row) for row in rows] == expected


def test_people_read_the_same_words_as_before(migrated):
    found = image_queue.count_troubles(migrated, 100)
    words = {reason.words for _, reason, _ in found if reason is not None}
    assert set(PROSE) <= words
    assert len(found) == len(PROSE) + len(REWORDED) + 1
    assert ("bad", None, 1) in found


def test_what_an_older_version_refused_by_its_settings_is_queued_again(migrated):
    with transaction(migrated):
        assert image_queue.apply_refusals(migrated, "other", NOW) == 4
    rows = migrated.execute("SELECT reason FROM images WHERE status = 'pending'")
    assert {code for (code,) in rows} == REFUSED_BY_SETTINGS


def test_the_counters_survive_the_migration(migrated):
    (bad,) = migrated.execute("SELECT value FROM counters WHERE name = 'images.bad'").fetchone()
    assert bad == len(PROSE) + len(REWORDED) + 1


@pytest.mark.parametrize("code", ReasonCode)
def test_each_code_has_words_of_its_own(code):
    words = ImageReason(code, "X").words
    others = {ImageReason(other, "X").words for other in ReasonCode if other is not code}
    same = {ReasonCode.HTTP_STATUS, ReasonCode.TRANSFER_FAILED}  # these two are detail only
    assert "{" not in words
    assert words not in others or code in same


def test_troubles_are_counted_by_status_code_and_detail_from_the_index(migrated):
    statements = []
    migrated.set_trace_callback(statements.append)
    image_queue.count_troubles(migrated, 2)
    migrated.set_trace_callback(None)
    (plan, *_) = migrated.execute(f"EXPLAIN QUERY PLAN {statements[0]}").fetchall()
    assert "COVERING INDEX images_trouble" in plan["detail"]
