"""The Linux service under a real systemd: install, crash, stop, wrong settings, boot, uninstall."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from service_world import (
    ODD,
    OwnSystemd,
    furnisync,
    make_home,
    present_sandbox,
    start_systemd,
    states,
    until,
)

pytestmark = pytest.mark.slow  # a real systemd takes its time to start, stop and restart

FAST_RESTART = "[Service]\nRestartSec=1\n"


class World:
    def __init__(self, user_home: Path, home: Path, systemd: OwnSystemd) -> None:
        self.user_home = user_home
        self.home = home
        self.systemd = systemd

    def service(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.systemd.run(
            *furnisync("service", *arguments), cwd=self.home, FURNISYNC_HOME=str(self.home)
        )

    def state(self, job: str) -> dict:
        return states(self.service("status", job, "--json"))[job]

    def log(self, job: str) -> str:
        path = self.home / "logs" / f"{job}.log"
        return path.read_text("utf-8") if path.exists() else ""

    def unit(self, job: str) -> Path:
        return self.user_home / ".config/systemd/user" / f"furnisync-{job}.service"


@pytest.fixture(scope="module")
def sandbox():
    with present_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def world(tmp_path, sandbox):
    user_home = tmp_path / "user"
    user_home.mkdir()
    world = World(user_home, make_home(tmp_path / ODD, sandbox), start_systemd(user_home))
    yield world
    world.systemd.close()


def test_life_of_both_services(world):
    installed = world.service("install")
    assert installed.returncode == 0, installed.stdout + installed.stderr
    assert "images: installed and running" in installed.stdout
    assert "loginctl enable-linger" in installed.stdout
    checked = world.systemd.run("systemd-analyze", "--user", "verify", str(world.unit("images")))
    assert checked.returncode == 0, checked.stderr
    assert "furnisync" not in checked.stderr  # not even a warning of ours
    until(lambda: (world.home / "images").is_dir() and any(world.home.glob("images/*/*")))
    until(
        lambda: "synced" in world.log("data") or "waiting for the first shops" in world.log("data")
    )
    assert "secret" not in world.unit("images").read_text()

    state = world.state("images")
    assert state["running"]
    assert state["home"] == str(world.home)
    assert not state["at_boot"]  # not lingering
    words = world.service("status").stdout
    assert "running for" in words
    assert "does not start at boot" in " ".join(words.split())
    assert "the images service starts" in world.service("logs", "images").stdout

    again = world.service("install", "images")
    assert again.returncode == 0, again.stderr
    assert world.state("images")["since"] == pytest.approx(state["since"], abs=1), "not restarted"

    stopped = world.service("stop")
    assert stopped.returncode == 0, stopped.stderr
    state = world.state("images")
    assert (state["running"], state["last_exit"]) == (False, "exit status 0")
    assert "stopping: finishing what is in flight" in world.log("images")
    assert "Stopped. The same command continues from here." in world.log("images")

    gone = world.service("uninstall")
    assert gone.returncode == 0, gone.stderr
    assert not world.unit("images").exists()
    assert "not installed" in world.service("status").stdout
    assert (world.home / "catalog.db").exists()


def test_a_killed_sync_comes_back_and_boot_starts_it(world):
    assert world.service("install", "images").returncode == 0
    drop_in = world.unit("images").with_suffix(".service.d") / "fast.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(FAST_RESTART)
    assert world.systemd.run("systemctl", "--user", "daemon-reload").returncode == 0
    pid = world.state("images")["pid"]
    assert world.systemd.run("kill", "-9", str(pid)).returncode == 0
    back = until(lambda: (s := world.state("images"))["running"] and s["pid"] != pid and s)
    assert back["restarts"] == 1
    until(lambda: world.log("images").count("the images service starts") == 2)
    world.systemd.close()  # as the plug pulled
    world.systemd = start_systemd(world.user_home)
    until(lambda: world.state("images")["running"])
    until(lambda: world.log("images").count("the images service starts") == 3)


def test_what_only_the_user_can_mend_is_told_and_not_tried_for_ever(world):
    assert world.service("install", "images").returncode == 0
    assert world.service("stop", "images").returncode == 0
    key = (world.home / ".env").read_text()
    (world.home / ".env").write_text("")
    refused = world.service("start", "images")
    assert refused.returncode == 2
    assert "ETSY_API_KEY is not set" in refused.stderr
    state = world.state("images")
    assert (state["running"], state["last_exit"], state["restarts"]) == (False, "exit status 2", 0)
    shown = world.systemd.run("systemctl", "--user", "is-active", "furnisync-images").stdout
    assert shown.strip() == "failed", "no restart is waiting"
    (world.home / ".env").write_text(key)
    assert world.service("start", "images").returncode == 0


def test_a_sync_started_by_hand_is_not_fought(world):
    by_hand = subprocess.Popen(
        furnisync("images", "--slow"),
        env={**os.environ, "FURNISYNC_HOME": str(world.home)},
        cwd=world.home,
        stdout=subprocess.DEVNULL,
    )
    try:
        lock = world.home / ".images.lock"
        until(lambda: lock.exists() and lock.read_text().strip() == str(by_hand.pid))
        refused = world.service("install", "images")
        assert refused.returncode == 2
        assert f"`kill {by_hand.pid}`" in refused.stderr
        assert not world.unit("images").exists()
    finally:
        by_hand.send_signal(signal.SIGTERM)
        assert by_hand.wait(30) == 0


def test_another_home_is_not_taken_over(world, tmp_path, sandbox):
    assert world.service("install", "images").returncode == 0
    other = make_home(tmp_path / "other", sandbox)
    refused = world.systemd.run(
        *furnisync("service", "install", "images"), cwd=other, FURNISYNC_HOME=str(other)
    )
    assert refused.returncode == 2
    assert "uninstall images" in refused.stderr
    assert str(world.home) in refused.stderr
