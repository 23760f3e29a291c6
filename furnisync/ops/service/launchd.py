"""Services under macOS: an agent in `~/Library/LaunchAgents`, driven by `launchctl`.

Three things that launchd does not do, and what does them:

| wanted                              | by                                                       |
| ----------------------------------- | -------------------------------------------------------- |
| no restart after exit status 2      | the runner, which turns it into 0 (`SuccessfulExit`)     |
| keep the Mac awake, end cleanly     | the runner, which starts `caffeinate -i -w` on itself:   |
|                                     | as a wrapper `caffeinate` would take the SIGTERM, and    |
|                                     | the sync would be killed without a clean end             |
| rotate logs without root            | the runner (service_log.py)                              |
"""

import os
import plistlib
import re
import time
from pathlib import Path
from typing import Any

from furnisync import owned
from furnisync.errors import UserError
from furnisync.ops.service.service import (
    STOP_TIMEOUT_S,
    Job,
    Service,
    ServiceState,
    Supervisor,
    Under,
    ask_system,
    complaint_of,
)

PAUSE_S = 60
"""Between a crash and the next start."""
OPEN_FILES = 4096
"""The default of 256 may be too few for fast mode's connections and the database files."""

PROTECTED = ("Documents", "Desktop", "Downloads")
"""Folders that background programs may use only once the user has allowed it."""


def label(job: Job) -> str:
    """The agent's name."""
    return f"local.furnisync.{job}"


def early_log(job: Job) -> Path:
    """The file for output before the runner opens its own log."""
    return Path.home() / "Library" / "Logs" / f"furnisync-{job}.log"


def render_agent(service: Service) -> bytes:
    """The agent's property list."""
    # Not in the home: its disk may not be mounted, and launchd starts nothing without its files.
    early = str(early_log(service.job))
    agent: dict[str, Any] = {
        "Label": label(service.job),
        "ProgramArguments": service.command("launchd"),
        "WorkingDirectory": str(service.folder),
        "EnvironmentVariables": service.environment,
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": PAUSE_S,
        "ExitTimeOut": STOP_TIMEOUT_S,
        "StandardOutPath": early,
        "StandardErrorPath": early,
        "SoftResourceLimits": {"NumberOfFiles": OPEN_FILES},
        # With Aqua alone it could not start over ssh while nobody is logged in at the screen.
        "LimitLoadToSessionType": ["Aqua", "Background"],
    }
    return plistlib.dumps(agent, sort_keys=False)


class Launchd(Supervisor):
    """launchd of the present user."""

    name: Under = "launchd"

    def __init__(self) -> None:
        self._uid = os.getuid()

    def unit(self, job: Job) -> Path:
        """The agent's file."""
        return Path.home() / "Library" / "LaunchAgents" / f"{label(job)}.plist"

    def render(self, service: Service) -> bytes:
        """The agent's property list."""
        return render_agent(service)

    def load(self, service: Service, *, changed: bool) -> None:
        """Check and load the agent.

        Raises:
            UserError: launchd refuses it.
        """
        path = self.unit(service.job)
        early_log(service.job).parent.mkdir(parents=True, exist_ok=True)
        checked = ask_system("plutil", "-lint", str(path))
        if checked.returncode != 0:
            raise UserError(f"{path} is not valid ({complaint_of(checked)}): please report this.")
        if changed:
            self.stop(service.job)
        self.start(service.job)

    def uninstall(self, job: Job) -> None:
        """Unload the agent and remove its file."""
        self.stop(job)
        owned.remove(self.unit(job))

    def start(self, job: Job) -> None:
        """Load the agent, which starts it; load it again if it has ended.

        Raises:
            UserError: launchd refuses.
        """
        if self.state(job).running:
            return
        self.stop(job)
        domain = self._domain()
        # After an earlier `launchctl disable` bootstrap would fail without a reason.
        ask_system("launchctl", "enable", f"{domain}/{label(job)}")
        answer = ask_system("launchctl", "bootstrap", domain, str(self.unit(job)))
        if answer.returncode != 0 and self._loaded(job) is None:
            raise UserError(
                f"launchd refuses the service {job} ({complaint_of(answer)}): log in once at"
                " the Mac's screen or over ssh as this user, then try again."
            )

    def stop(self, job: Job) -> None:
        """Unload the agent; it gets SIGTERM and time to end.

        Raises:
            UserError: it does not end.
        """
        end = time.monotonic() + STOP_TIMEOUT_S + 10
        while (target := self._loaded(job)) is not None:
            # It returns before the job has ended, and says "in progress" while it ends.
            ask_system("launchctl", "bootout", target)
            if time.monotonic() > end:
                raise UserError(
                    f"The service {job} does not end: look with `launchctl print {target}`."
                )
            time.sleep(0.2)

    def read_state(self, job: Job, unit: bytes) -> ServiceState:
        """Read `launchctl print`."""
        home = Path(plistlib.loads(unit)["EnvironmentVariables"]["FURNISYNC_HOME"])
        target = self._loaded(job)
        if target is None:
            return ServiceState(job, home, at_boot=True)
        facts = parse_print(ask_system("launchctl", "print", target).stdout)
        pid = int(facts["pid"]) if facts.get("pid", "").isdecimal() else None
        runs = facts.get("runs", "")
        return ServiceState(
            job,
            home,
            running=pid is not None,
            pid=pid,
            at_boot=True,
            since=None if pid is None else _started_at(pid),
            last_exit=_last_exit(facts),
            restarts=max(0, int(runs) - 1) if runs.isdecimal() else None,
        )

    def notices(self, service: Service) -> list[str]:
        """What macOS needs from the user."""
        login = (
            "It starts when you log in. To have it restart after a power cut without you, turn on"
            " System Settings > Users & Groups > Automatic login, and Energy > Start up"
            " automatically after a power failure."
        )
        words = [login]
        protected = [Path.home() / name for name in PROTECTED]
        for path in (service.home, service.python):
            if any(path.is_relative_to(folder) for folder in protected):
                words.append(
                    f"{path} is in a folder that macOS protects: if the log says 'Operation not"
                    f" permitted', allow {service.python.resolve()} in System Settings > Privacy &"
                    " Security > Full Disk Access."
                )
                break
        return words

    def _domain(self) -> str:
        """The user's domain: that of the screen session if there is one, else the background's."""
        gui = f"gui/{self._uid}"
        there = ask_system("launchctl", "print", gui).returncode == 0
        return gui if there else f"user/{self._uid}"

    def _loaded(self, job: Job) -> str | None:
        """The loaded agent's full name."""
        for domain in ("gui", "user"):
            target = f"{domain}/{self._uid}/{label(job)}"
            if ask_system("launchctl", "print", target).returncode == 0:
                return target
        return None


def parse_print(text: str) -> dict[str, str]:
    """The agent's own facts of `launchctl print`, one tab deep; deeper ones belong to its parts."""
    return dict(re.findall(r"^\t([a-z][a-z ]*?) = (.*)$", text, re.MULTILINE))


def _last_exit(facts: dict[str, str]) -> str | None:
    signal = facts.get("last terminating signal")
    if signal:
        return f"signal {signal}"
    code = facts.get("last exit code", "(never exited)")
    return None if code.startswith("(") else f"exit status {code.split(':')[0]}"


def _started_at(pid: int) -> float | None:
    """Unix time of a process's start, from the age that `ps` prints as [[dd-]hh:]mm:ss."""
    age = ask_system("ps", "-o", "etime=", "-p", str(pid)).stdout.strip()
    found = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)", age)
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return time.time() - (((days * 24 + hours) * 60 + minutes) * 60 + seconds)
