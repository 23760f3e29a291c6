"""What bad input gets: one sentence with its remedy, exit status 2, nothing broken."""

from __future__ import annotations

import json
import sqlite3

import pytest
from support.sync_world import Home, calls, check_complete, no_questions

from furnisync.clock import OFFSET_VARIABLE

WRONG_SECRET = "wrongsecret7"


def check_refused(ended, *words: str) -> None:
    assert ended.status == 2, ended.out
    assert "Traceback" not in ended.out
    said = " ".join(ended.out.replace("│", " ").split())
    for word in words:
        assert word in said, said


def check_unsaid(home: Home, *secrets: str) -> None:
    """No secret stands in any file of the home or in any output."""
    logs = home.path.parent.glob("*.log")
    files = [path for path in home.path.rglob("*") if path.is_file() and path.name != ".env"]
    assert files
    for path in [*files, *logs]:
        content = path.read_bytes()
        for secret in secrets:
            assert secret.encode() not in content, f"{path} tells the key"


@pytest.mark.parametrize("missing", ["ETSY_API_KEY", "ETSY_SHARED_SECRET"])
def test_half_a_key(home, steady, missing):
    home.env[missing] = ""
    with no_questions(steady):
        check_refused(home.sync("--fast"), f"{missing} is not set", ".env")
    assert not (home.path / "catalog.db").exists()


def test_no_key(home):
    home.env |= {"ETSY_API_KEY": "", "ETSY_SHARED_SECRET": ""}
    check_refused(home.sync("--fast"), "ETSY_API_KEY is not set", ".env", "etsy.com/developers")


def test_key_from_the_homes_env_file(tmp_path, steady):
    home = Home(tmp_path / "home", None)
    lines = [f"{name}={value}" for name, value in steady.env.items()]
    (home.path / ".env").write_text("\n".join(lines))
    home.env[OFFSET_VARIABLE] = steady.env[OFFSET_VARIABLE]  # of the process, not a setting
    ended = home.sync("--fast", "--limit", "5")
    assert ended.status == 0, ended.out


@pytest.mark.parametrize("mode", ["--fast", "--slow"])
def test_refused_key(home, steady, mode):
    home.env["ETSY_SHARED_SECRET"] = WRONG_SECRET
    check_refused(
        home.sync(mode), "403", "Invalid shared secret in x-api-key header", "ETSY_SHARED_SECRET"
    )
    check_unsaid(home, WRONG_SECRET, steady.key)


def test_key_is_told_to_nobody(home, steady):
    ended = home.sync("--fast")
    assert ended.status == 0, ended.out
    home.status()
    check_unsaid(home, steady.secret, steady.key)
    assert steady.asked()["cdn"]["leaked_key"] == 0


def test_key_refused_in_the_middle_keeps_what_came(bent_home, bent):
    words = {"error": "Your API key was suspended.", "do": "403", "body": "json"}
    bent.set_faults([{"where": "api", "call": "listings/batch", "nth": [2, 3, 4, 5, 6], **words}])
    check_refused(bent_home.sync("--fast"), "Your API key was suspended.")
    spent = calls(bent)
    bent.set_faults([])
    ended = bent_home.sync("--fast")
    assert ended.status == 0, ended.out
    check_complete(bent_home)
    assert calls(bent) - spent <= 3


PLAN = {"description": "", "taxonomies": [{"id": 967, "name": "Furniture", "price_breaks": [0, 9]}]}


def plan(**entry: object) -> str:
    return json.dumps({"taxonomies": [{**PLAN["taxonomies"][0], **entry}]})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", ["not JSON", "furniture_taxonomy_config.json"]),
        ("\xff\xfe", ["not JSON"]),
        ("[]", ["taxonomies"]),
        ('{"taxonomies": []}', ["empty"]),
        ('{"taxonomies": [7]}', ["entry 1"]),
        (plan(id="967"), ["entry 1", "id"]),
        (plan(price_breaks=[0, 50, 50, 100]), ["taxonomy 967", "50", "ascend"]),
        (plan(price_breaks=[0, 50, 20]), ["taxonomy 967", "20", "ascend"]),
        (plan(price_breaks=[0, "x"]), ["taxonomy 967", "not a price"]),
        (plan(price_breaks=[5]), ["at least two"]),
        (plan(price_breaks=[0, float("nan")]), ["not a price"]),
        (plan(id=4242), ["taxonomy 4242", "seller taxonomy"]),
        (json.dumps({"taxonomies": PLAN["taxonomies"] * 2}), ["967", "twice"]),
    ],
)
def test_wrong_plan(home, content, words):
    path = home.path / "furniture_taxonomy_config.json"
    path.write_text(content, "latin-1")
    before = path.read_bytes()
    check_refused(home.sync("--fast"), *words)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[images", ["furnisync.toml"]),
        ("[images]\nsize = '571xN'", ["furnisync.toml", "size"]),
        ("[images]\nsise = '570xN'", ["furnisync.toml", "sise"]),
        ("[quota]\nslow_per_second = 0", ["furnisync.toml", "slow_per_second"]),
        ("[quota]\nslow_per_second = nan", ["furnisync.toml", "slow_per_second"]),
        ("[quota]\nfast_per_second = inf", ["furnisync.toml", "fast_per_second"]),
    ],
)
def test_wrong_settings(home, content, words):
    (home.path / "furnisync.toml").write_text(content)
    check_refused(home.sync("--fast"), *words)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ETSY_API_URL", "api.etsy.com"),
        ("ETSY_API_URL", "http://"),
        ("ETSY_API_URL", "http://[half"),
        ("ETSY_CDN_HOSTS", "http://i.etsystatic.com"),
        ("ETSY_CDN_HOSTS", ","),
        ("FURNISYNC_HOME", "/dev/null/home"),
        ("ETSY_SHARED_SECRET", "clé"),
    ],
)
def test_wrong_environment(home, name, value):
    home.env[name] = value
    check_refused(home.sync("--fast"), name)


def test_env_file_that_is_no_text(home):
    (home.path / ".env").write_bytes(b"\xff\xfe\x00ETSY")
    check_refused(home.sync("--fast"), ".env")


def test_image_folder_that_is_a_file(home):
    (home.path / "images").touch()
    check_refused(home.sync("--fast"), "images")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--fats"],
        ["--fast", "--slow"],
        ["--limit", "0"],
        ["--limit", "-3"],
        ["--limit", "many"],
        ["--limit", "3", "ids.txt"],
        ["one.txt", "two.txt"],
    ],
)
def test_wrong_command_line(home, arguments):
    check_refused(home.script(*arguments).wait(), "Usage")


def test_ids_file_that_is_missing_or_names_nothing(home, tmp_path):
    check_refused(home.sync("no-such-file.txt"), "no-such-file.txt", "cannot be read")
    check_refused(home.sync(str(tmp_path)), str(tmp_path)[-20:], "cannot be read")
    ids = tmp_path / "ids [1].txt"
    ids.write_text("# nothing\n\nnot-an-id\n-7\n0\n")
    check_refused(home.sync(str(ids)), "ids [1].txt", "line 3, 4, 5")
    ids.write_text("# only a comment\n")
    check_refused(home.sync(str(ids)), "contains no listing")


def test_ids_file_with_wrong_lines(home, steady, tmp_path):
    known = sorted(row["listing_id"] for row in steady.truth_listings() if row["findable"])[:2]
    ids = tmp_path / "ids [1].txt"
    lines = [str(known[0]), "x", f"https://www.etsy.com/de/listing/{known[1]}/ein-tisch?ref=1#top"]
    ids.write_text("\ufeff" + "\r\n".join([*lines, "https://example.com/listing/3"]))
    ended = home.sync("--fast", str(ids))
    assert ended.status == 0, ended.out
    assert "ids [1].txt" in ended.out
    assert "line 2, 4" in ended.out
    assert {row[0] for row in home.rows("SELECT listing_id FROM listings")} == set(known)


def make_database(path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize("name", ["catalog.db", "quota.db"])
def test_database_that_is_none(home, name):
    (home.path / name).write_bytes(b"no database at all " * 100)
    before = (home.path / name).read_bytes()
    ended = home.sync("--fast")
    if name == "catalog.db":
        check_refused(ended, name, "move")
        assert (home.path / name).read_bytes() == before
    else:  # nothing of worth is in the ledger: it is begun anew, the old one kept beside
        assert ended.status in (0, 2)
        assert "Traceback" not in ended.out


def test_database_of_another_program(home):
    make_database(home.path / "catalog.db", "CREATE TABLE other (x)")
    check_refused(home.sync("--fast"), "catalog.db", "not made by furnisync")


def test_database_of_a_newer_version(home):
    assert home.sync("--fast", "--limit", "3").status == 0
    make_database(home.path / "catalog.db", "PRAGMA user_version = 999")
    check_refused(home.sync("--fast"), "catalog.db", "999", "update furnisync")


def test_second_instance(bent_home, bent):
    bent.set_faults([{"where": "cdn", "do": "slow", "seconds": 0.5}])
    first = bent_home.start("--fast")
    first.until(lambda: bent_home.number("SELECT count(*) FROM images"))
    check_refused(bent_home.sync("--fast"), f"pid {first.pid}", "already runs")
    for _ in range(3):  # looking does not hinder
        assert bent_home.status()["pid"] == first.pid
    first.kill()
    bent.set_faults([])
    assert bent_home.sync("--fast").status == 0


def test_service_that_is_away(tmp_path, steady):
    api = {"attempts": 2, "timeout_s": 2.0, "outage_patience_s": 2.0}
    home = Home(tmp_path / "home", steady, api=api)
    home.env["ETSY_API_URL"] = "http://127.0.0.1:9/v3/application"
    ended = home.sync("--fast")
    assert ended.status == 1, ended.out
    assert "Traceback" not in ended.out
    assert "no answer" in ended.out


def test_status_of_a_home_where_nothing_ever_ran(home):
    for flags in ([], ["--json"], ["--test"]):
        ended = home.run("status", *flags)
        check_refused(ended, "run a sync first")
        assert len(ended.out.splitlines()) == 1
