from datetime import UTC, datetime

import polars as pl
import pytest
from analysis_world import DAY, T0
from hypothesis import given, settings
from hypothesis import strategies as st

from furnisync.analysis import asof, panel
from furnisync.analysis import frames as frames_module
from furnisync.errors import ConfigError, DatabaseUnusable
from furnisync.history.fields.selection import Selection
from furnisync.history.rows import insert_rows
from furnisync.history.schema import open_history


def test_asof_gives_what_was_known_then(path):
    frame = asof(path, "listings", T0 + 15 * DAY)
    assert frame["listing_id"].to_list() == [1, 2]
    first, second = frame.to_dicts()
    assert (first["views"], first["title"], first["static_timestamp"]) == (0, "Oak table", T0)
    assert (second["state"], second["views"], second["title"]) == ("gone", None, "Elm desk")
    assert second["snapshot_timestamp"] == T0 + 10 * DAY
    later = asof(path, "listings", T0 + 20 * DAY).to_dicts()
    assert [row["title"] for row in later] == ["Oak table, big", "Elm desk", "Bench 🪑"]
    assert later[0]["views"] is None  # Etsy sent null then: no older value replaces it
    assert later[0]["is_customizable"] is None
    assert later[2]["views"] == 8_000_000_000


def test_asof_before_everything_is_empty_with_all_types(path):
    frame = asof(path, "listings", T0 - 1)
    assert frame.is_empty()
    assert frame.schema["is_customizable"] == pl.Boolean
    assert frame.schema["item_weight"] == pl.Float64
    assert frame.schema["title"] == pl.String


def test_panel_begins_at_the_first_snapshot_and_carries_whole_rows(path):
    dates = [T0 - DAY, T0 + DAY, T0 + 10 * DAY, T0 + 40 * DAY]
    frame = panel(path, "listings", dates, columns=["views", "title"])
    assert frame.select("listing_id", "date", "views", "title").rows() == [
        (1, dates[1], None, "Oak table"),
        (1, dates[2], 0, "Oak table"),
        (1, dates[3], None, "Oak table, big"),
        (2, dates[1], 5, "Elm desk"),
        (2, dates[2], None, "Elm desk"),
        (2, dates[3], None, "Elm desk"),
        (3, dates[3], 8_000_000_000, "Bench 🪑"),
    ]


def test_ids_dates_and_lists(path):
    moment = datetime.fromtimestamp(T0 + DAY, UTC)
    for at in (moment, moment.replace(tzinfo=None), T0 + DAY, float(T0 + DAY)):
        frame = panel(path, "listings", [at, at], ids=[2, 99], lists=True)
        assert frame["listing_id"].to_list() == [2]
        assert frame["tags"].to_list() == [[]]
    assert asof(path, "listings", T0 + 20 * DAY, lists=True)["tags"].to_list() == [
        ["oak"], [], None,
    ]  # fmt: skip
    assert panel(path, "listings", []).is_empty()
    assert asof(path, "listings", T0, ids=[]).is_empty()


def test_shops(path):
    frame = asof(path.parent, "shops", T0 + 11 * DAY)
    row = frame.to_dicts()[0]
    assert (row["num_favorers"], row["review_average"]) == (None, 4.5)
    assert row["is_shop_us_based"] is True


def test_wrong_names_and_a_missing_history_are_one_sentence(path, tmp_path):
    with pytest.raises(ConfigError, match="no column 'colour'"):
        asof(path, "listings", T0, columns=["colour"])
    with pytest.raises(ConfigError, match="listings or shops"):
        asof(path, "reviews", T0)
    with pytest.raises(DatabaseUnusable, match="does not exist yet"):
        asof(tmp_path, "listings", T0)


def test_types_hold_where_the_first_rows_are_null(tmp_path):
    """The driver guesses a column's type from its first rows: we must not."""
    path = tmp_path / "etsy_data.db"
    history = open_history(path, Selection.of())
    many = 70_000
    history.execute("BEGIN")
    rows = [(n, T0, 1, None, None) for n in range(1, many)]
    insert_rows(history, "listings", ("title", "item_weight"), rows)
    insert_rows(history, "listings", ("title", "item_weight"), [(many, T0, 1, "a\x00b", 1.5)])
    rows = [(n, T0, None, None) for n in range(1, many)]
    insert_rows(history, "listings_dynamic", ("state", "views"), rows)
    insert_rows(history, "listings_dynamic", ("state", "views"), [(many, T0, "active", 3)])
    history.execute("COMMIT")
    frame = panel(path, "listings", [T0, T0 + DAY])
    assert frame.height == 2 * many
    last = frame.row(-1, named=True)
    assert (last["title"], last["item_weight"], last["state"]) == ("a\x00b", 1.5, "active")
    assert last["is_customizable"] is None
    history.close()


dynamic_rows = st.dictionaries(
    st.tuples(st.integers(1, 6), st.integers(0, 30)), st.none() | st.integers(0, 9), max_size=40
)
static_rows = st.dictionaries(
    st.tuples(st.integers(1, 7), st.integers(0, 30)),
    st.none() | st.text("ab", max_size=2),
    max_size=20,
)


def newest(rows, key, date):
    times = [time for other, time in rows if other == key and time <= date]
    return (max(times), rows[key, max(times)]) if times else (None, None)


@settings(max_examples=40, deadline=None)
@given(dynamic_rows, static_rows, st.sets(st.integers(-2, 33), max_size=8), st.integers(1, 3))
def test_panel_equals_its_definition(empty, tmp_path_factory, dynamic, static, dates, part):
    path = tmp_path_factory.mktemp("panel") / "etsy_data.db"
    path.write_bytes(empty)
    history = open_history(path, Selection.of())
    history.execute("PRAGMA synchronous = OFF")
    rows = [(key, time, value) for (key, time), value in dynamic.items()]
    insert_rows(history, "listings_dynamic", ("views",), rows)
    rows = [(key, time, 1, value) for (key, time), value in static.items()]
    insert_rows(history, "listings", ("title",), rows)
    history.close()
    expected = [
        (key, date, *newest(dynamic, key, date), *newest(static, key, date))
        for key in range(1, 7)
        for date in sorted(dates)
        if newest(dynamic, key, date)[0] is not None
    ]
    original = frames_module._IDS_A_PART
    frames_module._IDS_A_PART = part
    try:
        found = panel(path, "listings", dates, columns=["views", "title"])
        singles = [asof(path, "listings", date, columns=["views", "title"]) for date in dates]
    finally:
        frames_module._IDS_A_PART = original
    order = ["listing_id", "date", "snapshot_timestamp", "views", "static_timestamp", "title"]
    assert found.select(order).rows() == expected
    order.remove("date")
    for date, single in zip(dates, singles, strict=True):
        assert single.select(order).rows() == [
            (key, *rest) for key, at, *rest in expected if at == date
        ]
