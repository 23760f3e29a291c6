"""Killed or stopped at any instant: the tables end the same, and no paid call is paid twice."""

from __future__ import annotations

import random
import signal
import time

import pytest
from support.collect_world import (
    Home,
    calls_of,
    content,
    ended_at_last,
    seed_catalog,
    small_sandbox,
)

WORKERS = 4


@pytest.fixture(scope="module")
def world():
    with small_sandbox(shops=24, listings=500, reviews_mean=60, latency_ms=15) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def undisturbed(world, tmp_path_factory):
    """The tables of a run without trouble, and the calls that it took."""
    home = make_home(tmp_path_factory.mktemp("undisturbed") / "home", world)
    world.reset_asked()
    home.sync()
    return content(home), work_calls(world)


def work_calls(world) -> int:
    """Calls that brought something: each run also pings once, to compare the clocks."""
    made = calls_of(world)
    return sum(made.values()) - made.get("openapi-ping", 0)


def make_home(path, world) -> Home:
    home = Home(path, world, api={"connections": WORKERS})
    seed_catalog(home, world)
    return home


def interrupt(home: Home, world, number: signal.Signals, chance: random.Random) -> None:
    """Start a run and signal it at some instant of its work."""
    at = work_calls(world) + chance.randrange(0, 25)
    run = home.start("--fast")
    with ended_at_last(run):
        while run.process.poll() is None and work_calls(world) < at:
            pass
        end = time.monotonic() + chance.random() * 0.05  # not just behind an answer
        while time.monotonic() < end:
            pass
        run.signal(number)
        run.process.wait(30)


def check_kills(tmp_path, world, undisturbed, kills: int, seed: int) -> None:
    expected, calls = undisturbed
    home = make_home(tmp_path / "home", world)
    chance = random.Random(seed)
    world.reset_asked()
    for _ in range(kills):
        interrupt(home, world, signal.SIGKILL, chance)
        assert not home.rows("PRAGMA integrity_check") or home.rows("PRAGMA integrity_check") == [
            ("ok",)
        ]
    home.sync()
    assert content(home) == expected
    assert work_calls(world) <= calls + WORKERS * kills


def test_killed_at_four_instants(tmp_path, world, undisturbed):
    check_kills(tmp_path, world, undisturbed, 4, seed=7)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_twenty_instants(tmp_path, world, undisturbed, seed):
    check_kills(tmp_path, world, undisturbed, 20, seed)


def test_stopped_at_some_instants_pays_nothing_twice(tmp_path, world, undisturbed):
    expected, calls = undisturbed
    home = make_home(tmp_path / "home", world)
    chance = random.Random(11)
    world.reset_asked()
    for _ in range(3):
        interrupt(home, world, signal.SIGTERM, chance)
    home.sync()
    assert content(home) == expected
    assert work_calls(world) == calls
