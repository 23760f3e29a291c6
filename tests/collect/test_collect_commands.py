"""The user's command lines as processes; signals; wrong input touches nothing."""

from __future__ import annotations

import json
import signal
import sqlite3
import time

import pytest
from support.collect_world import (
    LIST_CALL,
    REVIEW_CALL,
    Home,
    Truth,
    check_truth,
    ended_at_last,
    known_furniture,
    seed_catalog,
)
from support.processes import until

LIVELY = {"slow_per_second": 200.0}
"""Slow mode, for tests not slow."""


@pytest.mark.parametrize("arguments", [("--fast",), ("--slow",), ()], ids=" ".join)
def test_each_way_to_sync_once(home, steady, arguments):
    home.configure(quota=LIVELY)
    ended = home.script(*arguments).wait()
    assert ended.status == 0, ended.out
    truth = Truth(steady)
    check_truth(home, truth, known=known_furniture(truth))


def test_slow_is_about_one_call_a_second(home, steady):
    steady.reset_asked()
    run = home.script("--slow")
    with ended_at_last(run):
        until(lambda: steady.asked()["total"] >= 4)
        times = [entry["time"] for entry in steady.asked(log=True)["log"]]
        assert times[3] - times[0] > 2.5
        run.signal(signal.SIGTERM)
        assert run.wait(30).status == 0


def test_top_takes_the_shops_with_most_listings(home, steady):
    steady.reset_asked()
    ended = home.script("--fast", "--top", "3").wait()
    assert ended.status == 0, ended.out
    sizes = {shop: len(ids) for shop, ids in known_furniture(Truth(steady)).items()}
    top = sorted(sizes, key=lambda shop: (-sizes[shop], shop))[:3]
    assert {row[0] for row in home.rows("SELECT shop_id FROM shops")} == set(top)
    log = steady.asked(log=True)["log"]
    asked = {int(e["path"].split("/")[4]) for e in log if e["call"] in (LIST_CALL, REVIEW_CALL)}
    assert asked == set(top)


def test_test_leaves_production_alone(home, steady):
    before = bytes_of(home)
    assert home.script("--test").wait().status == 2  # image sync has no test catalog yet
    seed_catalog(home, steady, name="catalog_test.db")
    home.configure(quota=LIVELY)
    ended = home.script("--test").wait()
    assert ended.status == 0, ended.out
    assert home.rows("SELECT 1 FROM shops", name="etsy_data_test.db")
    assert not home.history.exists()
    assert bytes_of(home)["catalog.db"] == before["catalog.db"]


def test_continuous_waits_and_a_signal_ends_it(home, steady):
    home.configure(quota=LIVELY)
    run = home.script("--continuous")
    with ended_at_last(run):
        alive = sum(not shop["gone"] for shop in steady.truth_shops())
        run.until(
            lambda: (
                home.number("SELECT count(*) FROM sync_state WHERE reviews_walked NOT NULL")
                == alive
            )
        )
        steady.reset_asked()
        began = time.monotonic()
        run.signal(signal.SIGTERM)
        ended = run.wait(30)
        assert time.monotonic() - began < 5
        assert ended.status == 0, ended.out
        assert "Traceback" not in ended.out
    assert steady.asked()["total"] == 0
    truth = Truth(steady)
    check_truth(home, truth, known=known_furniture(truth))


def test_a_signal_does_not_wait_for_an_answer_that_never_comes(bent_home, bent):
    bent_home.configure(api={"timeout_s": 300.0})
    bent.set_faults([{"do": "hang", "call": LIST_CALL, "nth": list(range(3, 99))}])
    run = bent_home.script("--fast")
    with ended_at_last(run):
        run.until(lambda: bent.asked()["total"] >= 5)
        began = time.monotonic()
        run.signal(signal.SIGTERM)
        assert run.wait(30).status == 0
        assert time.monotonic() - began < 7  # 4 s for what is in flight, and a busy machine
    bent.set_faults([])
    bent_home.sync()
    truth = Truth(bent)
    check_truth(bent_home, truth, known=known_furniture(truth))


def test_a_second_instance_is_told_who_runs(home):
    run = home.script("--continuous")
    with ended_at_last(run):
        lock = home.path / ".data.lock"
        run.until(lambda: lock.exists() and lock.read_text().strip() == str(run.pid))
        ended = home.script("--fast").wait()
        assert ended.status == 2
        assert str(run.pid) in ended.out


# -- wrong input -------------------------------------------------------------------------------


def bytes_of(home) -> dict[str, bytes]:
    ignored = (".lock", "-wal", "-shm")
    return {
        str(path.relative_to(home.path)): path.read_bytes()
        for path in home.path.rglob("*")
        if path.is_file() and not path.name.endswith(ignored) and path.name != "quota.db"
    }


def run_sql(path, *statements) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def newer_version(home):
    home.sync()
    run_sql(home.history, "PRAGMA user_version = 99")


def no_database(home):
    home.history.write_bytes(b"shop_id;name\n1;Oak Ltd.\n" * 200)


def another_programs_database(home):
    run_sql(home.history, "CREATE TABLE shops (id INTEGER)")


def dropped_table(home):
    home.sync()
    run_sql(home.history, "DROP TABLE listings_dynamic")


def dropped_column(home):
    home.sync()
    run_sql(
        home.history,
        "DROP VIEW listings_latest",
        "ALTER TABLE listings_dynamic RENAME COLUMN quantity TO amount",
    )


def neither_source(home):
    (home.path / "catalog.db").unlink()


def metadata(home, text: str):
    neither_source(home)
    (home.path / "image_metadata.json").write_text(text)


def whole_metadata() -> str:
    entry = {"shop_id": 5, "images": [{"image_id": 1, "rank": 1, "url": "u", "file": None}]}
    return json.dumps({str(number): entry for number in range(1, 50)})


def cut_metadata(home):
    metadata(home, whole_metadata()[:-700])


def older_metadata(home):
    entry = {"image_id": 9999999999, "shop_id": 5, "hex": "a1b2c3", "suffix": "ab"}
    metadata(home, json.dumps({"1": entry, "2": 123, "3": "no image"}))


def list_metadata(home):
    metadata(home, json.dumps([1, 2, 3]))


def empty_metadata(home):
    metadata(home, "")


def catalog_is_no_database(home):
    (home.path / "catalog.db").write_text("not a database, but long enough to look at" * 50)


def catalog_without_tables(home):
    run_sql(home.path / "catalog.db", "PRAGMA foreign_keys = OFF", "DROP TABLE shops")


def catalog_without_shops(home):
    run_sql(home.path / "catalog.db", "PRAGMA foreign_keys = OFF", "DELETE FROM shops")


def settings(text: str):
    def write(home):
        (home.path / "furnisync.toml").write_text(text)

    return write


def nothing(home):
    pass


WRONG = {
    "newer version": (newer_version, (), "version 99"),
    "no database": (no_database, (), "etsy_data.db"),
    "another program's": (another_programs_database, (), "etsy_data.db"),
    "dropped table": (dropped_table, (), "listings_dynamic"),
    "renamed column": (dropped_column, (), "quantity"),
    "neither source": (neither_source, (), "sync_images.py"),
    "metadata cut off": (cut_metadata, (), "image_metadata.json"),
    "metadata of an older tool": (older_metadata, (), "older tool"),
    "metadata a list": (list_metadata, (), "image_metadata.json"),
    "metadata empty": (empty_metadata, (), "image_metadata.json"),
    "catalog no database": (catalog_is_no_database, (), "catalog.db"),
    "catalog without tables": (catalog_without_tables, (), "catalog.db"),
    "catalog without shops": (catalog_without_shops, (), "sync_images.py"),
    "top 0": (nothing, ("--top", "0"), "--top"),
    "top nonsense": (nothing, ("--top", "many"), "--top"),
    "continuous fast": (nothing, ("--continuous", "--fast"), "--continuous"),
    "slow fast": (nothing, ("--slow", "--fast"), "--slow"),
    "unknown field": (
        settings('[data]\nlisting_fields = ["price", "colour"]\n'),
        ("--fast",),
        "colour",
    ),
    "unknown setting": (settings("[data]\nsync_dayz = 3\n"), (), "sync_dayz"),
    "cadence of nothing": (settings("[data]\nsync_days = 0\n"), (), "sync_days"),
    "no toml": (settings("[data\n"), (), "furnisync.toml"),
}


@pytest.mark.parametrize("wrong", WRONG, ids=lambda name: name.replace(" ", "-"))
def test_wrong_input_is_one_sentence_and_touches_nothing(home, steady, wrong):
    make, arguments, named = WRONG[wrong]
    make(home)
    steady.reset_asked()
    before = bytes_of(home)
    ended = home.script(*(arguments or ("--fast",))).wait()
    assert ended.status == 2, ended.out
    assert named in ended.out
    assert "Traceback" not in ended.out
    assert bytes_of(home) == before
    assert steady.asked()["total"] == 0


def test_without_a_key_nothing_is_asked(tmp_path):
    home = Home(tmp_path / "home", None)
    ended = home.script("--fast").wait()
    assert ended.status == 2
    assert "ETSY_API_KEY" in ended.out
