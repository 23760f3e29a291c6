"""A clean run finds everything, at the calls it says, and a second one asks for nothing."""

from __future__ import annotations

import pytest
from support.sync_world import Home, check_complete, no_questions, small_sandbox

from furnisync.sandbox.process import SandboxProcess


def test_clean_run_then_nothing_left_to_ask(home, steady):
    steady.reset_asked()
    ended = home.sync("--fast")
    assert ended.status == 0, ended.out
    check_complete(home)
    asked = steady.asked()
    assert asked["total"] == 1 + 4 + 3  # taxonomy, pages of 300 that share one, batches
    assert asked["cdn"]["leaked_key"] == 0
    assert asked["refused"] == 0
    with no_questions(steady):
        again = home.sync("--fast")
    assert again.status == 0, again.out
    check_complete(home)


def test_every_shop_reads_each_shop_too(tmp_path):
    with small_sandbox(shops=14, listings=60) as sandbox:
        home = Home(tmp_path / "home", sandbox)
        assert home.sync("--fast", "--every-shop").status == 0
        check_complete(home)
        shops = home.number("SELECT count(*) FROM shops")
        assert sandbox.asked()["calls"]["shops/{shop_id}/listings/active"]["200"] == shops


def test_half_read_metadata_is_never_seen(home):
    run = home.start("--fast")
    while run.process.poll() is None:
        if (home.path / "image_metadata.json").exists():
            home.metadata()
    assert run.wait().status == 0
    assert not list(home.path.glob(".*.part"))


@pytest.mark.slow
def test_clean_run_of_the_size_that_was_asked_for(tmp_path):
    with SandboxProcess(shops=300, listings=6000) as sandbox:
        home = Home(tmp_path / "home", sandbox)
        ended = home.sync("--fast", timeout_s=240)
        assert ended.status == 0, ended.out
        check_complete(home)
        asked = sandbox.asked()
        assert asked["total"] <= 22 * 6
        assert asked["statuses"].keys() == {"200"}
        assert asked["cdn"]["leaked_key"] == 0
        with no_questions(sandbox):
            assert home.sync("--fast").status == 0
