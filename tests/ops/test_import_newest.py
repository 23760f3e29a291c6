"""The older tool's newest form, whatever its tables are called; sources that bring too little."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from old_world import (
    OLD_TABLES,
    PLAIN,
    RENAMED,
    ROOT,
    SHOPS,
    STATIC,
    WRITTEN_AT,
    NewHome,
    OldFolder,
    listing_ids,
    picture,
)

DAY = 86_400
AT = WRITTEN_AT - 5 * DAY
IDS = [one for shop in SHOPS for one in listing_ids(shop)]


@pytest.fixture
def old(tmp_path):
    return OldFolder(tmp_path / "old")


@pytest.fixture
def home(tmp_path):
    return NewHome(tmp_path / "home")


@pytest.mark.parametrize("names", [STATIC, PLAIN, RENAMED], ids=["static", "plain", "renamed"])
def test_all_of_it_comes_whatever_its_tables_are_called(old, home, names):
    old.newest(names)
    home.take(old.path)
    assert home.history(
        "SELECT listing_id, snapshot_timestamp, title, tags, materials, production_partners,"
        " taxonomy_id FROM listings ORDER BY 1"
    ) == [(one, AT, f"Oak table {one}", '["oak"]', '["wood"]', "[]", 12371) for one in IDS]
    assert home.history(
        "SELECT listing_id, snapshot_timestamp, state, views, price_amount, price_divisor,"
        " price_currency_code FROM listings_dynamic ORDER BY 1"
    ) == [(one, AT, "active", 10, 12500, 100, "USD") for one in IDS]
    assert home.history("SELECT shop_id, snapshot_timestamp, create_date, url FROM shops") == [
        (shop, AT, 5, "u") for shop in SHOPS
    ]
    assert home.history("SELECT shop_id, review_count FROM shops_dynamic") == [
        (shop, 4) for shop in SHOPS
    ]
    assert home.history("SELECT count(*) FROM reviews") == [(3,)]
    assert home.rows("SELECT count(*) FROM images") == [(36,)]
    assert home.history("SELECT count(*) FROM listings_latest WHERE price_amount = 12500") == [
        (12,)
    ]
    state = home.dump()
    home.take(old.path)  # all is here already, which is no lack
    assert home.dump() == state


def test_two_tables_of_one_role_are_both_read(old, home):
    """It kept its older table when it began a new one, which holds some of the same."""
    old.newest(STATIC)
    script = OLD_TABLES.partition("CREATE TABLE listings (")[2].partition(";")[0]
    old.tables(
        f"CREATE TABLE listings ({script};",
        listings=[
            {"listing_id": IDS[0], "shop_id": 7001, "snapshot_timestamp": AT - DAY, "title": "a",
             "price_amount": 9, "price_divisor": 1, "price_currency": "USD"},
            {"listing_id": IDS[1], "shop_id": 7001, "snapshot_timestamp": AT, "url": "https://x"},
            {"listing_id": 5, "shop_id": 7001, "snapshot_timestamp": AT, "title": "only there"},
        ],
    )  # fmt: skip
    home.take(old.path)
    assert home.history(
        "SELECT listing_id, snapshot_timestamp, title, url FROM listings WHERE listing_id IN"
        " (5, ?, ?) ORDER BY 1, 2", IDS[0], IDS[1],
    ) == [
        (5, AT, "only there", None),
        (IDS[0], AT - DAY, "a", None),
        (IDS[0], AT, f"Oak table {IDS[0]}", None),
        (IDS[1], AT, f"Oak table {IDS[1]}", "https://x"),
    ]  # fmt: skip
    assert home.history(
        "SELECT snapshot_timestamp, price_amount FROM listings_dynamic WHERE listing_id = ?"
        " ORDER BY 1", IDS[0],
    ) == [(AT - DAY, 9), (AT, 12500)]  # fmt: skip


def test_what_is_no_table_of_it_is_named_and_left(old, home):
    old.newest()
    with closing(sqlite3.connect(old.database)) as connection, connection:
        connection.executescript(
            "CREATE TABLE work (listing_id INTEGER, state TEXT);"
            f"INSERT INTO work VALUES ({IDS[0]}, 'waits');"
            "CREATE TABLE vectors (listing_id INTEGER, image_id INTEGER, vector BLOB);"
            "INSERT INTO vectors VALUES (1, 2, x'00');"
            "CREATE VIEW listings AS SELECT * FROM listings_static;"
            "CREATE TABLE empty (a TEXT);"
        )
    home.take(old.path)
    named = [row["entry"] for row in home.report() if row["what"] == "tables left behind"]
    assert named == ["vectors", "work"]
    assert home.history("SELECT DISTINCT state FROM listings_dynamic") == [("active",)]


# -- a source that brings too little ---------------------------------------------------------------


def short(home, ended):
    assert ended.returncode == 1, ended.stdout
    found = {
        row["source"]: row["detail"]
        for row in home.report()
        if row["what"] == "sources that brought too little"
    }
    for source, reason in found.items():
        assert f"Fewer than half were imported of {source}: {reason}" in ended.stdout
    return found


def test_a_table_that_brings_nothing_is_an_error(old, home):
    old.newest()
    with closing(sqlite3.connect(old.database)) as connection, connection:
        connection.execute("DROP TABLE listings_static")
    found = short(home, home.run("import", old.path))
    assert found == {
        "etsy_data.db, listings_dynamic": "0 of 12 imported (12 x no shop id)",
    }
    assert short(home, home.run("import", old.path)) == found


def test_fewer_than_half_is_an_error_and_half_is_none(old, home):
    old.newest()
    with closing(sqlite3.connect(old.database)) as connection, connection:
        connection.execute(
            "UPDATE listings_dynamic SET snapshot_timestamp = 'never' WHERE id % 2 = 0"
        )
        connection.execute("UPDATE reviews SET shop_id = 'none' WHERE shop_id > 7001")
    found = short(home, home.run("import", old.path))
    assert found == {"etsy_data.db, reviews": "1 of 3 imported (2 x no shop id)"}


def test_entries_rows_and_files_that_bring_nothing(old, home):
    old.metadata({str(one): None for one in range(10, 16)} | {"16": {"image_id": 1, "shop_id": 9}})
    old.tables(
        "CREATE TABLE image_status (listing_id, image_id, url)",
        image_status=[{"listing_id": 50 + n, "image_id": None} for n in range(3)],
    )
    for one in range(4):
        old.image(f"{100 + one}_7.jpg", b"<html>" * 50)
    ended = home.run("import", old.path)
    assert "Traceback" not in ended.stdout
    found = short(home, ended)
    assert set(found) == {"image_metadata.json", "etsy_data.db, image_status", "image files"}
    assert found["image_metadata.json"].startswith("1 of 7 imported (")
    assert found["etsy_data.db, image_status"].startswith("0 of 3 imported (3 x no image id")
    assert found["image files"].startswith("0 of 4 imported (4 x not an image")


def test_names_without_an_image_id_and_no_metadata(old, home):
    for one in range(3):
        old.image(f"{100 + one}.jpg", picture(one))
    found = short(home, home.run("import", "--images", old.images))
    assert found == {"image files": "0 of 3 imported (3 x unknown image id)"}


# -- the source is only read -----------------------------------------------------------------------


def left_with_log(old):
    """As a killed tool leaves its database: rows are only in the log beside it."""
    script = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1]);"
        "c.execute('PRAGMA wal_autocheckpoint = 0'); c.execute('PRAGMA journal_mode = WAL');"
        "c.execute(\"UPDATE listings_static SET title = 'from the log'\"); c.commit(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, old.database], check=True)
    assert old.database.with_name("etsy_data.db-wal").stat().st_size


def left_half_done(old):
    """As a power cut leaves it: half a transaction is in the file, its journal beside it."""
    script = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('PRAGMA cache_size = 1'); c.execute('BEGIN');"
        "c.execute(\"UPDATE listings_static SET title = 'half ' || hex(randomblob(3000))\");"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, old.database], check=True)
    assert old.database.with_name("etsy_data.db-journal").stat().st_size


@pytest.mark.parametrize(
    ("leave", "title"),
    [(left_with_log, "from the log"), (left_half_done, f"Oak table {IDS[0]}"),
     (lambda _: None, f"Oak table {IDS[0]}")],
    ids=["log", "journal", "closed"],
)  # fmt: skip
def test_nothing_is_written_into_the_source(old, home, leave, title):
    old.newest()
    leave(old)
    before = old.contents()
    home.take(old.path)
    assert home.history("SELECT title FROM listings WHERE listing_id = ?", IDS[0]) == [(title,)]
    assert old.contents() == before
    assert not (home.path / ".import").exists()


def test_a_link_to_a_database_that_has_a_log(old, home, tmp_path):
    old.newest()
    left_with_log(old)
    link = tmp_path / "link.db"
    link.symlink_to(old.database)
    home.take("--history", link)
    assert home.history("SELECT DISTINCT title FROM listings") == [("from the log",)]


@pytest.mark.parametrize("leave", [left_with_log, lambda _: None], ids=["log", "closed"])
def test_a_source_on_a_read_only_disk(old, home, leave):
    if shutil.which("unshare") is None:
        pytest.skip("no namespace can be made here: no unshare")
    old.newest()
    leave(old)
    mapped = [] if os.getuid() == 0 else ["-U", "-r"]
    mount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" || exit 77; exec "$@"'
    command = home.command("import", old.path, "--adopt", "copy", "--take-altered")
    ended = subprocess.run(
        ["unshare", "-m", *mapped, "--propagation", "private", "sh", "-c", mount, old.path,
         *command],
        env=home.environment(), cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if ended.returncode == 77:
        pytest.skip(f"nothing can be mounted here: {ended.stderr}")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert home.history("SELECT count(*) FROM listings") == [(12,)]
    assert home.check_files() == 18


# -- in the home itself ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("leave", "title", "beside"),
    [(left_with_log, "from the log", "-wal"), (left_half_done, "Oak table {}", "-journal")],
    ids=["log", "journal"],
)
def test_a_database_in_the_home_moves_with_its_logs(home, leave, title, beside):
    """A journal that stays would damage both the older database and ours, of the same name."""
    in_home = OldFolder(home.path)
    in_home.newest()
    in_home.database = in_home.database.rename(home.path / "etsy_data.db")
    leave(in_home)
    home.take(home.path)
    assert home.history("SELECT title FROM listings ORDER BY listing_id") == [
        (title.format(one),) for one in IDS
    ]
    assert (home.path / "older-tool" / f"etsy_data.db{beside}").exists()
    state = home.dump()
    home.take(home.path)
    assert home.dump() == state


def test_the_newest_form_in_the_home_itself(home):
    in_home = OldFolder(home.path)
    in_home.newest()
    before = {name: value for name, value in in_home.contents().items() if "image" in name}
    home.take(home.path, "--take-altered")
    assert home.history("SELECT count(*) FROM listings") == [(12,)]
    after = in_home.contents()
    assert {name: after[name] for name in before} == before
    files = {Path(row[0]).parts[0] for row in home.rows("SELECT file FROM altered_images")}
    assert files == {"imageembedded", "altered"}
    assert home.check_files() == 18
