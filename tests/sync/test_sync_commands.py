"""Every command line of the user's document, as processes; signals; being watched."""

from __future__ import annotations

import itertools
import json
import re
import signal
import subprocess
import sys
import time

import pytest
from support.processes import ROOT, until
from support.sync_world import Home, check_complete, findable, no_questions, served

END_S = 5.0


def all_images(home, sandbox) -> bool:
    return home.number("SELECT value FROM counters WHERE name = 'images.done'") == len(
        served(sandbox)
    )


def started(home) -> bool:
    return bool(home.rows("SELECT 1 FROM images WHERE status = 'done' LIMIT 1"))


def end_in_time(run, number) -> str:
    began = time.monotonic()
    run.signal(number)
    ended = run.wait(60)
    took = time.monotonic() - began
    assert took < END_S + 1, f"{took:.1f} s, {ended.out}"
    assert ended.status == 0, ended.out
    assert "Stopped" in ended.out
    assert "Traceback" not in ended.out
    return ended.out


@pytest.mark.parametrize(
    ("arguments", "number"), [((), signal.SIGTERM), (("--slow",), signal.SIGINT)]
)
def test_slow_mode_runs_without_end_and_ends_cleanly(tmp_path, steady, arguments, number):
    """`nohup ./venv/bin/python -u sync_images.py --slow > sync_output.log 2>&1 &`"""
    home = Home(
        tmp_path / "home",
        steady,
        quota={"slow_per_second": 20.0},
        images={"slow_per_second": 1000.0},
    )
    run = home.script(*arguments)
    run.until(lambda: all_images(home, steady))
    status = home.status()
    assert (status["pid"], status["activity"]["mode"]) == (run.pid, "slow")
    run.until(lambda: "waiting until something is due" in home.status()["activity"]["doing"])
    words = end_in_time(run, number)
    assert "\x1b" not in words
    check_complete(home)
    assert home.status()["pid"] is None


def test_slow_mode_asks_once_a_second(home, steady):
    steady.reset_asked()
    run = home.script("--slow")
    run.until(lambda: steady.asked()["total"] >= 4)
    times = [entry["time"] for entry in steady.asked(log=True)["log"]]
    end_in_time(run, signal.SIGINT)
    gaps = [after - before for before, after in itertools.pairwise(times[1:])]
    assert min(gaps) > 0.8  # the first answers tell the limits


def test_nohup_fast_into_a_file(bent_home, bent):
    bent.set_faults([{"where": "cdn", "do": "slow", "seconds": 0.3}])
    run = bent_home.script("--fast")
    ended = run.wait()
    assert ended.status == 0, ended.out
    assert "\x1b" not in ended.out
    assert "\r" not in ended.out
    line = next(line for line in ended.out.splitlines() if "images/s" in line)
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO ", line)
    assert "listings" in line
    assert "calls: " in line
    assert "image_metadata.json written: 300 listings" in ended.out
    check_complete(bent_home)


def test_terminal_gets_bars_and_is_left_in_order(home):
    command = f"{sys.executable} -u sync_images.py --fast"
    ended = subprocess.run(
        ["script", "-qec", command, "/dev/null"],
        cwd=ROOT,
        env={**home.environment(), "TERM": "xterm", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    assert "listings with images" in ended.stdout
    assert ended.stdout.rindex("\x1b[?25h") > ended.stdout.rindex("\x1b[?25l")  # cursor is back


def test_reset_shops_reads_all_again(home, steady):
    assert home.script("--fast").wait().status == 0
    with no_questions(steady):
        assert home.script("--fast").wait().status == 0
    time.sleep(1.0)  # the reset counts in whole seconds
    run = home.script("--reset-shops", "--fast")
    assert run.wait().status == 0
    asked = steady.asked()
    # A ping tells whether the clock is right before old times are repaired.
    assert asked["calls"].keys() - {"openapi-ping"} == {"listings/active"}
    assert asked["cdn"]["total"] == 0
    check_complete(home)


def test_reset_shops_in_slow_mode(home):
    run = home.script("--reset-shops")
    run.until(lambda: started(home))
    end_in_time(run, signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_after_the_end_changes_nothing(home, number):
    """Such as a second Ctrl-C while Python is about to exit."""
    run = home.script("--slow")
    run.until(lambda: started(home))
    run.signal(signal.SIGTERM)
    run.until(lambda: "Stopped" in run.words)
    while run.process.poll() is None:
        run.signal(number)
        time.sleep(0.0005)
    ended = run.wait()
    assert ended.status == 0, ended.out
    assert ended.out.endswith("The same command continues from here.\n")


def test_test_folders_are_apart_from_production(home, steady):
    ended = home.script("--test", "--fast").wait()
    assert ended.status == 0, ended.out
    names = {path.name for path in home.path.iterdir()}
    assert {"images_test", "image_metadata_test.json", "catalog_test.db", "quota.db"} <= names
    assert {"furniture_taxonomy_config_test.json"} <= names
    assert not names & {"images", "image_metadata.json", "catalog.db"}
    assert len(home.files("images_test")) == len(served(steady))
    assert home.metadata("image_metadata_test.json").keys() == set(map(str, findable(steady)))
    entries = home.metadata("image_metadata_test.json").values()
    assert all(i["file"].startswith("images_test/") for e in entries for i in e["images"])
    assert home.status("--test")["listings"] == {"active": 300}
    assert home.run("status").status == 2


@pytest.mark.parametrize("limit", [1, 150])
def test_limit(home, steady, limit):
    steady.reset_asked()
    ended = home.script("--limit", str(limit), "--fast").wait()
    assert ended.status == 0, ended.out
    listings = {row[0] for row in home.rows("SELECT listing_id FROM listings")}
    assert len(listings) == limit
    assert listings <= findable(steady)
    own = [row for row in served(steady) if row["listing_id"] in listings]
    assert len(home.files()) == len(own)
    assert steady.asked()["total"] == 2 * -(-limit // 100)
    assert home.metadata().keys() == set(map(str, listings))


def test_limit_ends_in_slow_mode_too_and_a_full_run_continues(home):
    assert home.script("--limit", "3").wait().status == 0
    assert home.script("--fast").wait().status == 0
    check_complete(home)


def test_ids_file(home, steady, tmp_path):
    truth = steady.truth_listings()
    active = [row["listing_id"] for row in truth if row["findable"]][:3]
    ended_ids = [row["listing_id"] for row in truth if row["visible"] and not row["findable"]][:1]
    ids = tmp_path / "ids.txt"
    wanted = [*active, *ended_ids]
    urls = [f"https://www.etsy.com/listing/{one}/oak-table?x=1" for one in wanted[1:]]
    ids.write_text("\n".join(["# mine", "", f"{wanted[0]}  # the first", *urls, "99", *urls]))
    steady.reset_asked()
    ended = home.script(str(ids)).wait()
    assert ended.status == 0, ended.out
    assert steady.asked()["calls"] == {"listings/batch": {"200": 1}}
    states = dict(home.rows("SELECT listing_id, state FROM listings"))
    assert states.keys() == {*wanted, 99}
    assert all(states[one] == "active" for one in active)
    assert states[99] == "gone"
    own = [row for row in steady.truth_images(digests=False) if row["listing_id"] in wanted]
    assert len(home.files()) == len(own)


def test_second_signal_ends_at_once(bent_home, bent):
    bent.set_faults([{"where": "cdn", "do": "hang"}])
    bent_home.configure(images={"timeout_s": 60.0})
    run = bent_home.script("--slow")
    run.until(lambda: bent.asked()["cdn"]["total"])
    run.signal(signal.SIGINT)
    run.until(lambda: "stopping" in run.words)
    began = time.monotonic()
    run.signal(signal.SIGINT)
    assert run.wait().status == 130
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("where", ["api", "cdn"])
def test_signal_while_nothing_answers(bent_home, bent, where):
    bent_home.configure(images={"timeout_s": 60.0}, api={"timeout_s": 60.0})
    bent.set_faults([{"where": where, "do": "hang"}])
    run = bent_home.script("--fast")
    run.until(lambda: bent.asked()["cdn"]["total"] if where == "cdn" else bent.asked()["total"])
    run.until((bent_home.path / ".images.lock").exists)
    end_in_time(run, signal.SIGTERM)
    bent.set_faults([])
    assert bent_home.script("--fast").wait().status == 0
    check_complete(bent_home)


def test_status_while_running_and_after(bent_home, bent):
    bent.set_faults([{"where": "cdn", "do": "slow", "seconds": 0.5}])
    run = bent_home.script("--fast")
    run.until(lambda: started(bent_home))
    seen = bent_home.status()
    assert seen["pid"] == run.pid
    assert seen["activity"]["mode"] == "fast"
    assert seen["listings"]["active"] > 0
    assert seen["images"]["pending"] > 0
    assert seen["quota"]["limit_per_day"] == 10**9
    words = bent_home.run("status").out
    assert f"running (pid {run.pid}, fast)" in words
    bent.set_faults([])
    assert run.wait().status == 0
    after = bent_home.status()
    assert (after["pid"], after["images_due"], after["batches_waiting"]) == (None, 0, 0)
    assert after["current_pass"]["complete"]
    assert json.dumps(after["troubles"]) == "[]"
    assert "not running" in bent_home.run("status").out


def test_status_after_a_kill(bent_home, bent):
    bent.set_faults([{"where": "cdn", "do": "slow", "seconds": 0.5}])
    run = bent_home.script("--fast")
    run.until(lambda: started(bent_home))
    run.kill()
    assert bent_home.status()["pid"] is None
    assert "not running" in bent_home.run("status").out
    until(lambda: bent_home.run("status").status == 0)
