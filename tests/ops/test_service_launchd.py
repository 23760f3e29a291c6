"""The macOS service: its property list, and its life under a stand-in for launchctl.

The stand-in runs the agent for real (program, folder, environment, restarts) on any system; what
only a Mac can show is said in the operations page.
"""

from __future__ import annotations

import contextlib
import json
import os
import plistlib
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from service_world import ODD, clean_environment, make_home, present_sandbox, states, until

from furnisync.ops.service.launchd import parse_print, render_agent
from furnisync.ops.service.service import Service

ON_A_MAC = """
import furnisync.cli.services as commands
from furnisync.cli.app import main
from furnisync.ops.service.launchd import Launchd
commands.find_supervisor = Launchd
main()
"""
FAKE = Path(__file__).with_name("fake_launchctl.py")


class Mac:
    """A folder of programs that a Mac has, in front of the search path."""

    def __init__(self, root: Path, home: Path) -> None:
        self.home = home
        self.state = root / "launchd"
        self.programs = root / "bin"
        self.user_home = root / "user"
        for folder in (self.state, self.programs, self.user_home):
            folder.mkdir()
        self.program("launchctl", f'exec "{sys.executable}" "{FAKE}" "$@"')
        self.program("plutil", 'test -s "$2"')
        self.program("caffeinate", f'echo "$$ $@" >> "{self.state}/caffeinate"; sleep 600')
        self.env = {
            **clean_environment(), "HOME": str(self.user_home), "FAKE_LAUNCHD": str(self.state),
            "PATH": f"{self.programs}:{os.environ['PATH']}",
        }  # fmt: skip

    def program(self, name: str, body: str) -> None:
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def service(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", ON_A_MAC, "service", *arguments],
            env={**self.env, "FURNISYNC_HOME": str(self.home), **env},
            cwd=self.home, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    def status(self) -> dict:
        return states(self.service("status", "images", "--json"))["images"]

    @property
    def agent(self) -> Path:
        return self.user_home / "Library/LaunchAgents/local.furnisync.images.plist"

    @property
    def log(self) -> str:
        path = self.home / "logs" / "images.log"
        return path.read_text("utf-8") if path.exists() else ""

    @property
    def calls(self) -> str:
        return (self.state / "calls.txt").read_text()


@pytest.fixture(scope="module")
def sandbox():
    with present_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def mac(tmp_path, sandbox):
    mac = Mac(tmp_path, make_home(tmp_path / ODD, sandbox))
    yield mac
    mac.service("uninstall", "images")
    caffeinate = mac.state / "caffeinate"
    for line in caffeinate.read_text().splitlines() if caffeinate.exists() else ():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(line.split()[0]), signal.SIGKILL)


def test_life_of_the_agent(mac):
    installed = mac.service("install", "images")
    assert installed.returncode == 0, installed.stdout + installed.stderr
    assert "Automatic login" in installed.stdout
    until(lambda: any(mac.home.glob("images/*/*")))
    state = mac.status()
    assert state["running"]
    assert "-i -w " + str(state["pid"]) in (mac.state / "caffeinate").read_text()
    assert "running for" in mac.service("status").stdout

    os.kill(state["pid"], signal.SIGKILL)
    back = until(lambda: (s := mac.status())["running"] and s["pid"] != state["pid"] and s)
    assert back["restarts"] == 1
    until(lambda: mac.log.count("the images service starts") == 2)

    until(lambda: (mac.home / ".images.lock").read_text().strip() == str(back["pid"]))
    stopped = mac.service("stop", "images")
    assert stopped.returncode == 0, stopped.stderr
    assert not mac.status()["running"]
    assert "Stopped. The same command continues from here." in mac.log
    assert mac.service("start", "images").returncode == 0
    assert mac.status()["running"]
    assert mac.service("restart").returncode == 0
    assert mac.status()["running"]
    assert mac.service("uninstall").returncode == 0
    assert not mac.agent.exists()


def test_a_restart_ends_both_before_it_starts_either(mac):
    """A new version may migrate what the other service, of the older one, still reads."""
    assert mac.service("install", "both").returncode == 0
    until(lambda: any(mac.home.glob("images/*/*")))
    (mac.state / "calls.txt").unlink()
    restarted = mac.service("restart")
    assert restarted.returncode == 0, restarted.stderr
    verbs = [line.split()[0] for line in mac.calls.splitlines()]
    ends = [place for place, verb in enumerate(verbs) if verb == "bootout"]
    starts = [place for place, verb in enumerate(verbs) if verb == "bootstrap"]
    assert len(ends) >= len(starts) == 2
    ended = {
        line.split("/")[-1] for line in mac.calls.splitlines()[: starts[0]] if "bootout" in line
    }
    assert ended == {"local.furnisync.images", "local.furnisync.data"}
    assert mac.service("uninstall").returncode == 0


def test_an_agent_that_somebody_changed_is_kept_when_it_is_replaced_or_removed(mac):
    assert mac.service("install", "images").returncode == 0
    changed = mac.agent.read_bytes().replace(b"4096", b"8192")
    mac.agent.write_bytes(changed)
    installed = mac.service("install", "images")
    assert installed.returncode == 0, installed.stderr
    assert "kept as" in installed.stdout + installed.stderr
    mac.agent.write_bytes(changed)
    assert mac.service("uninstall", "images").returncode == 0
    kept = [one for one in mac.agent.parent.iterdir() if not one.name.startswith(".")]
    assert [one.read_bytes() for one in kept] == [changed, changed]
    assert not [one for one in kept if one.suffix == ".plist"], "launchd would start it"


def test_without_a_screen_session_the_background_domain_serves(mac):
    assert mac.service("install", "images", FAKE_GUI="no").returncode == 0
    assert f"bootstrap user/{os.getuid()} " in mac.calls
    assert mac.status()["running"]


def test_what_only_the_user_can_mend_is_not_tried_for_ever(mac):
    assert mac.service("install", "images").returncode == 0
    assert mac.service("stop", "images").returncode == 0
    key = (mac.home / ".env").read_text()
    (mac.home / ".env").write_text("")
    refused = mac.service("start", "images")
    assert refused.returncode == 2
    assert "ETSY_API_KEY is not set" in refused.stderr
    (mac.home / ".env").write_text(key)
    time.sleep(2)  # several pauses of the stand-in
    assert mac.log.count("the images service starts") == 2, "one start after the repair, no more"
    assert mac.service("start", "images").returncode == 0, "an ended, loaded agent starts afresh"


def test_the_key_must_be_in_a_file(mac):
    key = (mac.home / ".env").read_text()
    (mac.home / ".env").unlink()
    refused = mac.service("install", **dict(line.split("=", 1) for line in key.splitlines()))
    assert refused.returncode == 2
    assert str(mac.home / ".env") in refused.stderr
    assert not mac.agent.exists()


def service_at(home: Path) -> Service:
    return Service("data", home, home, home / "venv" / "bin" / "python")


def test_property_list_says_what_is_wanted():
    home = Path("/Users/me/Documents/" + ODD + " <&>")
    agent = plistlib.loads(render_agent(service_at(home)))
    assert agent["ProgramArguments"] == [
        f"{home}/venv/bin/python", "-u", "-m", "furnisync", "service", "run", "data",
        "--under", "launchd",
    ]  # fmt: skip
    assert agent["EnvironmentVariables"]["FURNISYNC_HOME"] == str(home)
    assert agent["RunAtLoad"] is True
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["ThrottleInterval"] == 60
    assert agent["ExitTimeOut"] >= 10
    assert agent["StandardOutPath"].startswith(str(Path.home() / "Library/Logs"))
    assert "secret" not in json.dumps(agent).lower()


@pytest.mark.skipif(shutil.which("plutil") is None, reason="plutil is only on a Mac")
def test_the_mac_accepts_the_property_list(tmp_path):
    path = tmp_path / "agent.plist"
    path.write_bytes(render_agent(service_at(tmp_path / ODD)))
    subprocess.run(["plutil", "-lint", path], check=True)


def test_print_is_read_as_a_mac_writes_it():
    text = (
        "gui/501/local.furnisync.images = {\n\tactive count = 1\n\tpath = /x.plist\n"
        "\tstate = running\n\n\truns = 3\n\tpid = 4711\n\tlast exit code = 78: EX_CONFIG\n"
        "\tevent triggers = {\n\t\tpid = 1\n\t}\n}\n"
    )
    facts = parse_print(text)
    assert (facts["pid"], facts["runs"], facts["state"]) == ("4711", "3", "running")
    assert facts["last exit code"] == "78: EX_CONFIG"
