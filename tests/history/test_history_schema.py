import sqlite3
import time

import pytest
from history_world import DAY, T0, listing, rows, shop, stage_batch, sync

from furnisync.errors import DatabaseUnusable
from furnisync.history import schema
from furnisync.history.claims import Claims
from furnisync.history.fields.definitions import LISTING_FIELDS, REVIEW_FIELDS, SHOP_FIELDS
from furnisync.history.fields.selection import Selection
from furnisync.history.rows import insert_rows
from furnisync.history.schema import open_history, open_history_reader, stored_columns
from furnisync.history.snapshots import append_shop_sync
from furnisync.history.staging import begin_shop_sync
from furnisync.sqlite.database import open_database

ALL = Selection.of(
    shops=[field.name for field in SHOP_FIELDS],
    listings=[field.name for field in LISTING_FIELDS],
    reviews=[field.name for field in REVIEW_FIELDS],
)

RETYPED = """ALTER TABLE listings_dynamic DROP COLUMN views;
ALTER TABLE listings_dynamic ADD COLUMN views TEXT"""
REMADE = """ALTER TABLE shops_dynamic RENAME TO old;
CREATE TABLE shops_dynamic AS SELECT * FROM old"""


def test_tables_views_and_types(history):
    tables = {row[0]: row[1] for row in rows(history, "SELECT name, strict FROM pragma_table_list")}
    for table in ("shops", "shops_dynamic", "listings", "listings_dynamic", "reviews"):
        assert tables[table] == 1
    assert tables["sync_state"] == 1
    columns = stored_columns(history, "listings")
    assert columns["tags"] == "TEXT"
    assert columns["item_weight"] == "REAL"
    assert columns["is_customizable"] == "INTEGER"
    assert {"shops_latest", "listings_latest"} <= tables.keys()


def test_field_selected_later_gets_its_column_and_older_rows_null(path, selection):
    history = open_history(path, selection)
    sync(history, selection, 1, [listing(10, 1, skus=["A"])], T0)
    history.close()
    history = open_history(path, ALL)
    item = listing(10, 1, skus=["A"], state_timestamp=5)
    sync(history, ALL, 1, [item], T0 + 200 * DAY, shop_name="Oak & Co")
    assert rows(history, "SELECT skus FROM listings ORDER BY snapshot_timestamp") == [
        (None,), ('["A"]',),
    ]  # fmt: skip
    assert rows(history, "SELECT state_timestamp FROM listings_latest") == [(5,)]
    assert rows(history, "SELECT shop_name FROM shops_latest") == [("Oak & Co",)]
    history.close()
    history = open_history(path, selection)  # deselected: the column stays
    sync(history, selection, 1, [item], T0 + 400 * DAY)
    assert rows(history, "SELECT skus FROM listings ORDER BY snapshot_timestamp") == [
        (None,), ('["A"]',), (None,),
    ]  # fmt: skip
    history.close()


def test_what_was_staged_under_another_selection_is_appended(path, selection):
    history = open_history(path, ALL)
    begin_shop_sync(history, 1, T0, ids=[10, 11])
    claim = Claims().take(history)
    answer = [{**listing(10, 1, skus=["A"]), "shop": shop(1)}, listing(11, 1)]
    assert stage_batch(history, ALL, claim, answer, now_s=T0) == [1]
    history.close()
    history = open_history(path, selection)
    append_shop_sync(history, 1)
    assert rows(history, "SELECT listing_id, skus FROM listings_latest") == [
        (10, '["A"]'), (11, None),
    ]  # fmt: skip
    history.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("ALTER TABLE listings DROP COLUMN title", "no column title"),
        ("DROP TABLE oddities", "oddities is missing"),
        ("DROP TABLE stored_columns", "stored_columns cannot be read"),
        ("DROP TABLE sync_state", "sync_state is missing"),
        ("PRAGMA user_version = 99", "update furnisync"),
        ("PRAGMA application_id = 1", "was not made by furnisync"),
        (
            RETYPED,
            "views of listings_dynamic is TEXT",
        ),
        (
            REMADE,
            "shops_dynamic",
        ),
    ],
)
def test_changed_by_hand_or_newer_is_refused_and_left_alone(path, selection, change, said):
    open_history(path, selection).close()
    by_hand = sqlite3.connect(path)
    for view in ("listings_latest", "shops_latest"):
        if "ALTER" in change:
            by_hand.execute(f"DROP VIEW IF EXISTS {view}")
    by_hand.executescript(change)
    by_hand.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    by_hand.close()
    before = path.read_bytes()
    with pytest.raises(DatabaseUnusable, match=said) as caught:
        open_history(path, ALL)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_a_file_of_an_older_version_is_brought_up(path, selection):
    older = open_database(path, schema.APPLICATION_ID, schema.MIGRATIONS[:1])
    older.execute("INSERT INTO sync_state (shop_id) VALUES (1)")
    older.close()
    history = open_history(path, selection)
    assert rows(history, "SELECT shop_id, reviews_unsent FROM sync_state") == [(1, 0)]
    history.execute("DROP TABLE drift")
    history.close()
    with pytest.raises(DatabaseUnusable, match="drift is missing"):
        open_history(path, selection)


def test_a_file_that_is_no_database_is_refused(path, selection):
    path.write_bytes(b"\x89PNG" * 4000)
    with pytest.raises(DatabaseUnusable):
        open_history(path, selection)
    assert path.read_bytes() == b"\x89PNG" * 4000


def test_latest_is_found_by_seeking(history, selection):
    history.execute("BEGIN")
    for snapshot in range(30):
        at = T0 + snapshot * 14 * DAY
        insert_rows(
            history, "listings_dynamic", ("views",), [(n, at, snapshot) for n in range(4000)]
        )
        if snapshot % 13 == 0:
            insert_rows(history, "listings", ("title",), [(n, at, 1, str(at)) for n in range(4000)])
    history.execute("COMMIT")
    began = time.perf_counter()
    row = history.execute("SELECT * FROM listings_latest WHERE listing_id = 1234").fetchone()
    assert time.perf_counter() - began < 0.02
    assert (row["views"], row["title"]) == (29, str(T0 + 26 * 14 * DAY))
    plan = rows(history, "EXPLAIN QUERY PLAN SELECT * FROM listings_latest WHERE listing_id = 5")
    assert not [step for *_, step in plan if step.startswith("SCAN")]


def test_a_reader_sees_whole_syncs_and_blocks_nobody(path, history, selection):
    reader = open_history_reader(path)
    sync(history, selection, 1, [listing(10, 1)], T0)
    reader.execute("BEGIN")
    assert rows(reader, "SELECT count(*) FROM listings") == [(1,)]
    sync(history, selection, 2, [listing(20, 2)], T0)  # the writer does not wait
    assert rows(reader, "SELECT count(*) FROM listings") == [(1,)]
    reader.execute("COMMIT")
    assert rows(reader, "SELECT count(*) FROM listings") == [(2,)]
    with pytest.raises(sqlite3.OperationalError):
        reader.execute("DELETE FROM listings")
    reader.close()
