"""`image_metadata.json`: its form, its escapes, and that a reader never sees half of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from furnisync.catalog import image_queue, listings
from furnisync.catalog.image_queue import Shown
from furnisync.catalog.listings import Batched, ImageRow, Listed
from furnisync.catalog.schema import open_catalog, read_catalog
from furnisync.config import HomeFiles
from furnisync.image_job import ImageJob, ImageOutcome, ImageReason, ReasonCode
from furnisync.images import metadata_writer
from furnisync.images.metadata import Interrupted, write_metadata
from furnisync.images.metadata_writer import MetadataWriter
from furnisync.sqlite.database import transaction

NOW = 1_790_000_000


@pytest.fixture
def catalog(tmp_path):
    with closing(open_catalog(tmp_path / "catalog.db")) as connection:
        yield connection


def add(connection, listing_id, urls, *, shop_id=7, which="all"):
    rows = [ImageRow(listing_id * 10 + n, n, url) for n, url in enumerate(urls, start=1)]
    listings.add_listed(connection, [Listed(listing_id, shop_id, 967, 1.0, 1)], NOW)
    one = Batched(listing_id, shop_id, 967, "active", 1.0, 1, rows)
    listings.record_batch(connection, [one], NOW, NOW)
    image_queue.add_images(connection, [Shown(listing_id, rows)], which, NOW)


def written(tmp_path, folder="images"):
    path = tmp_path / "image_metadata.json"
    with closing(read_catalog(tmp_path / "catalog.db")) as reader:
        number = write_metadata(reader, path, folder)
    document = json.loads(path.read_bytes())
    assert len(document) == number
    return document


def test_its_form(catalog, tmp_path):
    add(catalog, 2, ["https://i/a", "https://i/b", "https://i/c"])
    add(catalog, 1, [])
    done = ImageOutcome(ImageJob(2, 21, ""), "done", None, "002/2_21.jpg", 5, 1, 1, b"x")
    gone = ImageOutcome(ImageJob(2, 22, ""), "gone", ImageReason(ReasonCode.HTTP_STATUS, "404"))
    image_queue.record_outcomes(catalog, [done, gone], "570xN", NOW)
    listings.want_batch(catalog, [99], NOW)  # asked for by a file of ids, never answered
    found = written(tmp_path, "images_test")
    assert list(found) == ["1", "2"]
    assert found["1"] == {"shop_id": 7, "images": []}
    assert found["2"] == {
        "shop_id": 7,
        "images": [
            {"image_id": 21, "rank": 1, "url": "https://i/a", "file": "images_test/002/2_21.jpg",
             "status": "done"},
            {"image_id": 22, "rank": 2, "url": "https://i/b", "file": None, "status": "gone"},
            {"image_id": 23, "rank": 3, "url": "https://i/c", "file": None, "status": "pending"},
        ],
    }  # fmt: skip


def test_images_stand_by_rank_and_unwanted_ones_not_at_all(catalog, tmp_path):
    add(catalog, 1, ["a", "b", "c"], which="primary")
    assert [one["image_id"] for one in written(tmp_path)["1"]["images"]] == [11]
    catalog.execute("UPDATE images SET status = 'pending', next_try = 1, rank = 10 - rank")
    assert [one["image_id"] for one in written(tmp_path)["1"]["images"]] == [13, 12, 11]


def test_an_empty_catalog_is_an_empty_object(catalog, tmp_path):
    assert written(tmp_path) == {}


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(st.lists(text, min_size=1, max_size=4))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_url_comes_out_as_it_came_in(catalog, tmp_path, urls):
    catalog.execute("DELETE FROM images")
    add(catalog, 1, urls)
    assert [one["url"] for one in written(tmp_path)["1"]["images"]] == urls


@pytest.mark.parametrize("url", ["🪑🪑", "כסא", "a\0b", '"\\/', "\u2028\x7f\x1f", "é", "&amp;<b>"])
def test_odd_urls(catalog, tmp_path, url):
    add(catalog, 1, [url])
    assert written(tmp_path)["1"]["images"][0]["url"] == url


def test_a_reader_sees_the_old_or_the_new_file(catalog, tmp_path):
    for listing_id in range(1, 100):
        add(catalog, listing_id, ["https://i/a"])
    written(tmp_path)
    ended, broken = threading.Event(), []

    def read():
        while not ended.is_set():
            try:
                assert len(json.loads((tmp_path / "image_metadata.json").read_bytes())) == 99
            except Exception as error:  # noqa: BLE001
                broken.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(5):
        written(tmp_path)
    ended.set()
    reader.join()
    assert broken == []


@pytest.mark.processes
def test_a_full_disk_leaves_the_old_file(catalog, tmp_path):
    for listing_id in range(1, 200):
        add(catalog, listing_id, ["https://i/" + "a" * 100])
    written(tmp_path)
    before = (tmp_path / "image_metadata.json").read_bytes()
    program = """
        import pathlib, resource, sys
        from furnisync.catalog.schema import read_catalog
        from furnisync.images.metadata import write_metadata
        home = pathlib.Path(sys.argv[1])
        reader = read_catalog(home / "catalog.db")
        reader.execute("SELECT count(*) FROM listings").fetchone()
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            write_metadata(reader, home / "image_metadata.json", "images")
        except OSError:
            sys.exit(7)
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), tmp_path], check=False, timeout=30
    )
    assert ended.returncode == 7
    assert (tmp_path / "image_metadata.json").read_bytes() == before
    assert not list(tmp_path.glob("*.part")) + list(tmp_path.glob(".*.part"))


def many(catalog, number):
    with transaction(catalog):
        catalog.executemany(
            "INSERT INTO listings (listing_id, shop_id, first_seen, last_listed)"
            " VALUES (?, 1, 0, 0)",
            ((one,) for one in range(1, number + 1)),
        )


def test_a_stop_interrupts_the_writing_and_leaves_the_old_file(catalog, tmp_path):
    path = tmp_path / "image_metadata.json"
    write_metadata(catalog, path, "images")
    before = path.read_bytes()
    many(catalog, 5000)
    asked = []
    with pytest.raises(Interrupted):
        write_metadata(catalog, path, "images", lambda: asked.append(None) or len(asked) == 3)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.glob(".image_metadata*part")] == []


def test_a_large_file_is_written_rarely(tmp_path, monkeypatch):
    """At 840 MB, 4 GB a day: five hours, also after a restart."""
    files = HomeFiles(tmp_path)
    at = [1000.0]
    monkeypatch.setattr(metadata_writer.time, "monotonic", lambda: at[0])
    with files.metadata.open("wb") as file:
        file.truncate(840_000_000)
    writer = MetadataWriter(files, 300.0)
    at[0] += 5 * 3600
    assert not writer.due
    at[0] += 300
    assert writer.due
    os.utime(files.metadata, (0, 0))
    writer = MetadataWriter(files, 300.0)
    at[0] += 301
    assert writer.due
