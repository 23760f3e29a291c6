"""Killed at any instant and started again, it ends with the same set at hardly more calls."""

from __future__ import annotations

import random
import time

import pytest
from support.sync_world import (
    Home,
    calls,
    check_complete,
    check_no_partial,
    digests,
    served,
    small_sandbox,
)

LATENCY_S = 0.1
UNCOMMITTED_S = 0.3
"""An answer may have left the sandbox this long before its rows are committed on a busy machine."""


def clean_calls(path, sandbox) -> int:
    sandbox.reset_asked()
    assert Home(path / "clean", sandbox).sync("--fast").status == 0
    spent = calls(sandbox)
    sandbox.reset_asked()
    return spent


def in_flight(sandbox, killed_at: float) -> int:
    """Calls whose answers had not come, or just had, when the process was killed."""
    since = killed_at - LATENCY_S - UNCOMMITTED_S
    return sum(since <= entry["time"] for entry in sandbox.asked(log=True)["log"])


def kill_and_start_again(home, sandbox, instants) -> int:
    """Returns how many calls were in flight at the kills."""
    truth = digests(served(sandbox))
    lost = 0
    for instant in instants:
        before = calls(sandbox)
        run = home.start("--fast")
        run.until(lambda: home.number("SELECT count(*) FROM meta"))
        time.sleep(instant)  # a random instant, not a wait for anything
        run.kill()
        lost += min(in_flight(sandbox, sandbox.now()), calls(sandbox) - before)
        check_no_partial(home, truth)
    return lost


@pytest.mark.parametrize(
    ("kills", "longest_s", "world"),
    [
        (5, 1.0, {"listings": 400}),
        pytest.param(20, 2.5, {"listings": 3000, "shops": 150}, marks=pytest.mark.slow),
    ],
)
def test_killed_again_and_again_it_ends_with_the_same_set(tmp_path, kills, longest_s, world):
    instants = [random.Random(7 * n).uniform(0, longest_s) for n in range(kills)]
    with small_sandbox(**world, latency_ms=LATENCY_S * 1000, cdn_latency_ms=20) as sandbox:
        clean = clean_calls(tmp_path, sandbox)
        home = Home(tmp_path / "home", sandbox)
        lost = kill_and_start_again(home, sandbox, instants)
        ended = home.sync("--fast")
        assert ended.status == 0, ended.out
        check_complete(home)
        spent = calls(sandbox)
        assert spent <= clean + lost, f"{spent} calls, {clean} by a clean run, {lost} in flight"
        cdn = sandbox.asked()["cdn"]["total"]
        # At each kill 16 connections were busy, and half a second's images not yet committed.
        assert cdn <= len(served(sandbox)) + kills * 1000
        assert not list((home.path / "images" / ".partial").iterdir())


def test_image_damaged_by_a_power_cut_is_fetched_anew(home, steady):
    assert home.sync("--fast").status == 0
    images = sorted(home.files().values())
    images[0].write_bytes(b"")
    images[1].unlink()
    images[2].write_bytes(images[2].read_bytes()[:-10] + b"\0" * 10)
    run = home.start("--slow")  # this one does not end cleanly, and says so to the next
    run.until(lambda: home.rows("SELECT 1 FROM meta WHERE key = 'clean_end' AND value = '0'"))
    run.kill()
    ended = home.sync("--fast")
    assert ended.status == 0, ended.out
    assert "3 images were damaged" in ended.out
    check_complete(home)
