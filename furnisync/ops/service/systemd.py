"""Services under Linux: units of the user's own systemd, driven by `systemctl --user`."""

import getpass
import json
import os
import re
import subprocess
import time
from pathlib import Path

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

GROWING_PAUSES_SINCE = 254
"""The first version with RestartSteps."""
LINGERING = Path("/var/lib/systemd/linger")

EXITED = "1"
"""`ExecMainCode` of a process that ended by itself (CLD_EXITED)."""


def unit_name(job: Job) -> str:
    """The unit's name."""
    return f"furnisync-{job}.service"


def quote(word: str) -> str:
    """Quote a word for ExecStart= or Environment=, without specifiers."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def render_unit(service: Service, version: int) -> str:
    """The unit file for a version of systemd."""
    program, *arguments = service.command("systemd")
    # After a leading colon a $ in a path is literal.
    command = " ".join([quote(":" + program), *map(quote, arguments)])
    environment = " ".join(quote(f"{name}={value}") for name, value in service.environment.items())
    pauses = (
        "RestartSec=10\nRestartSteps=6\nRestartMaxDelaySec=900"
        if version >= GROWING_PAUSES_SINCE
        else "RestartSec=60"
    )
    return f"""\
[Unit]
Description=furnisync {service.title}
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart={command}
WorkingDirectory=-{str(service.folder).replace("%", "%%")}
Environment={environment}
Restart=on-failure
{pauses}
# 2: only the user can fix it, another try would fail as well.
RestartPreventExitStatus=2
KillSignal=SIGTERM
TimeoutStopSec={STOP_TIMEOUT_S}

[Install]
WantedBy=default.target

[X-Furnisync]
Home={json.dumps(str(service.home), ensure_ascii=False)}
"""


class Systemd(Supervisor):
    """The present user's systemd."""

    name: Under = "systemd"

    def __init__(self) -> None:
        """Find the user's systemd.

        Raises:
            UserError: there is none, or it cannot be reached.
        """
        _find_runtime_folder()
        answer = ask_system("systemctl", "--version")
        found = re.match(r"systemd (\d+)", answer.stdout)
        self._version = int(found.group(1)) if found else 0
        reached = ask_system("systemctl", "--user", "show", "-p", "Version")
        if reached.returncode != 0:
            raise UserError(
                f"systemd of user {getpass.getuser()} cannot be reached"
                f" ({complaint_of(reached)}): log in again (not by su or sudo), or run the sync"
                " under nohup as the README shows."
            )

    def unit(self, job: Job) -> Path:
        """The unit file."""
        config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        return Path(config) / "systemd" / "user" / unit_name(job)

    def render(self, service: Service) -> bytes:
        """The unit file."""
        return render_unit(service, self._version).encode()

    def load(self, service: Service, *, changed: bool) -> None:
        """Enable and start the unit.

        Raises:
            UserError: systemd refuses it.
        """
        self._systemctl("daemon-reload")
        self._systemctl("enable", unit_name(service.job))
        self._systemctl("restart" if changed else "start", unit_name(service.job))

    def uninstall(self, job: Job) -> None:
        """Stop, disable, remove the file."""
        if not self.unit(job).exists():
            return
        self._systemctl("disable", "--now", unit_name(job))
        owned.remove(self.unit(job))
        self._systemctl("daemon-reload")
        ask_system("systemctl", "--user", "reset-failed", unit_name(job))

    def start(self, job: Job) -> None:
        """Start the unit."""
        self._systemctl("start", unit_name(job))

    def stop(self, job: Job) -> None:
        """Stop the unit; it gets SIGTERM and time to end."""
        self._systemctl("stop", unit_name(job))

    def read_state(self, job: Job, unit: bytes) -> ServiceState:
        """Read `systemctl show`."""
        found = re.search(r"^Home=(.*)$", unit.decode(), re.MULTILINE)
        home = Path(json.loads(found.group(1))) if found else None
        shown = self._systemctl("show", unit_name(job)).stdout
        facts = dict(line.partition("=")[::2] for line in shown.splitlines())
        running = facts.get("ActiveState") in ("active", "deactivating", "reloading")
        main_pid = int(facts.get("MainPID") or 0)
        event = "ExecMainStartTimestampMonotonic" if running else "ExecMainExitTimestampMonotonic"
        return ServiceState(
            job,
            home,
            running=running,
            pid=main_pid or None,
            at_boot=facts.get("UnitFileState") == "enabled" and _lingers(),
            since=_wall_time(facts.get(event, "0")),
            last_exit=_last_exit(facts),
            restarts=int(facts.get("NRestarts") or 0),
        )

    def notices(self, service: Service) -> list[str]:  # noqa: ARG002 -- launchd needs it
        """What Linux needs from the user."""
        linger = (
            "It ends when you log out and does not start at boot: run `loginctl enable-linger`"
            " once (with sudo and your user name where it asks for a password)."
        )
        return [] if _lingers() else [linger]

    def _systemctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        answer = ask_system("systemctl", "--user", *arguments, timeout_s=STOP_TIMEOUT_S + 60)
        if answer.returncode != 0:
            raise UserError(
                f"`systemctl --user {' '.join(arguments)}` failed ({complaint_of(answer)}): fix"
                " that and try again."
            )
        return answer


def _find_runtime_folder() -> None:
    """Over ssh the variable is sometimes missing although the folder exists."""
    folder = Path(f"/run/user/{os.getuid()}")
    if "XDG_RUNTIME_DIR" not in os.environ and folder.is_dir():
        os.environ["XDG_RUNTIME_DIR"] = str(folder)


def _lingers() -> bool:
    return (LINGERING / getpass.getuser()).exists()


def _wall_time(monotonic_us: str) -> float | None:
    """Unix time of one of systemd's monotonic times, in microseconds; 0 means never."""
    at_s = int(monotonic_us or 0) / 1e6
    return time.time() - (time.monotonic() - at_s) if at_s else None


def _last_exit(facts: dict[str, str]) -> str | None:
    code, status = facts.get("ExecMainCode", "0"), facts.get("ExecMainStatus", "0")
    if code == "0":
        return None
    return f"exit status {status}" if code == EXITED else f"signal {status}"
