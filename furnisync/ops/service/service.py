"""The two jobs as services of the operating system: what launchd and systemd share.

    furnisync service install           launchd (macOS)              systemd --user (Linux)
            |                               |                              |
         Service -------- unit file: agent .plist -------------- .service unit
                                            |                              |
                              both start `furnisync service run JOB`, which keeps
                              its own log (service_log.py) and runs the sync

The units contain the home's path and nothing secret: the key stays in `.env`.
"""

import os
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from furnisync import owned
from furnisync.config import HomeFiles, read_environment
from furnisync.errors import UserError
from furnisync.identity import ensure_home_id, home_is_here
from furnisync.lockfile import holder

Job = Literal["images", "data"]
JOBS: tuple[Job, ...] = ("images", "data")
TITLES: dict[Job, str] = {"images": "image sync", "data": "data sync"}
Under = Literal["launchd", "systemd"]

ROOT = Path("/")
STOP_TIMEOUT_S = 30
"""A sync ends within 5 s of the signal; a slow disk may take longer before it is killed."""
HOME_EVERY_S = 5.0
"""How often a service checks for its home while that is not mounted."""
SETTLE_S = 10.0
"""A start that fails for a reason that the user can fix does so within this."""


class Service(msgspec.Struct, frozen=True):
    """One job of one home as a service.

    Attributes:
        folder: its working directory; a `.env` in it is read as in the home. It is the root if the
            home has its own `.env`: the service must also start while the home is not mounted.
        python: the environment's interpreter, by its path in the environment.
    """

    job: Job
    home: Path
    folder: Path
    python: Path

    @property
    def title(self) -> str:
        """The job's name for people."""
        return TITLES[self.job]

    @property
    def log(self) -> Path:
        """The log that the service writes and rotates itself."""
        return log_of(self.home, self.job)

    def command(self, under: Under) -> list[str]:
        """The program that the system starts."""
        runner = ["-u", "-m", "furnisync", "service", "run", self.job, "--under", under]
        return [str(self.python), *runner]

    @property
    def environment(self) -> dict[str, str]:
        """What the unit sets; never the key."""
        return {"FURNISYNC_HOME": str(self.home), "PYTHONUTF8": "1"}


class ServiceState(msgspec.Struct, frozen=True):
    """The state of a service.

    Attributes:
        home: the home of the installed unit; None if it is not installed.
        at_boot: whether the system starts it at boot.
        since: unix time of its start, or of its end if it does not run; None if unknown.
        last_exit: how the last run ended; None if none did.
        restarts: starts by the system after crashes; None if unknown.
    """

    job: Job
    home: Path | None
    running: bool = False
    pid: int | None = None
    at_boot: bool = False
    since: float | None = None
    last_exit: str | None = None
    restarts: int | None = None

    @property
    def installed(self) -> bool:
        """Whether there is a unit."""
        return self.home is not None


class Supervisor(ABC):
    """launchd or systemd, as this program uses them. Each raises UserError where it refuses."""

    name: Under

    @abstractmethod
    def unit(self, job: Job) -> Path:
        """The path of the unit file."""

    @abstractmethod
    def render(self, service: Service) -> bytes:
        """The unit file's content."""

    @abstractmethod
    def load(self, service: Service, *, changed: bool) -> None:
        """Start the unit that was written, now and at boot; restart it if it changed."""

    @abstractmethod
    def uninstall(self, job: Job) -> None:
        """Stop it and remove the unit; does nothing if there is none."""

    @abstractmethod
    def start(self, job: Job) -> None:
        """Start it if it does not run."""

    @abstractmethod
    def stop(self, job: Job) -> None:
        """End it cleanly; returns when it has ended."""

    @abstractmethod
    def read_state(self, job: Job, unit: bytes) -> ServiceState:
        """The state of an installed unit with this content."""

    @abstractmethod
    def notices(self, service: Service) -> list[str]:
        """What the user should know or do so that it always runs."""

    def install(self, service: Service) -> None:
        """Write the unit, have it started at boot, start it; restart it if it changed.

        Raises:
            UserError: the system refuses it.
        """
        service.log.parent.mkdir(parents=True, exist_ok=True)
        changed = write_unit(self.unit(service.job), self.render(service))
        self.load(service, changed=changed)

    def state(self, job: Job) -> ServiceState:
        """Whether it is installed and runs."""
        try:
            unit = self.unit(job).read_bytes()
        except FileNotFoundError:
            return ServiceState(job, None)
        return self.read_state(job, unit)


def log_of(home: Path, job: Job) -> Path:
    """The log file of a service."""
    return home / "logs" / f"{job}.log"


def describe_service(job: Job) -> Service:
    """The service of the present home, checked for what would stop it at once.

    Raises:
        UserError: no key in a file, or a path that no unit can contain.
    """
    home = read_environment().home
    # A service has no variables of this shell.
    seen = read_environment({"FURNISYNC_HOME": str(home)})
    if seen.key is None:
        raise UserError(
            f"A service sees only the key in a file: put ETSY_API_KEY=... and"
            f" ETSY_SHARED_SECRET=... into {home / '.env'}, then install again."
        )
    folder = ROOT if (home / ".env").is_file() else Path.cwd()
    service = Service(job, home, folder, Path(sys.executable))
    for path in (service.home, service.folder, service.python):
        if not str(path).isprintable():
            raise UserError(
                f"{str(path)!r} contains a character that no unit can: rename the folder."
            )
    return service


def mark_home(home: Path) -> None:
    """Give the home its mark, which shows a service that the disk is mounted.

    Raises:
        UserError: the home cannot be written.
    """
    ensure_home_id(home)


def await_home(home: Path, tell: Callable[[str], None]) -> None:
    """Wait, without limit, until the home is mounted; nothing is created in an empty mount point.

    Args:
        home: as in the unit.
        tell: gets one message when the wait begins and one when it ends.
    """
    waited = False
    while not home_is_here(home):
        if not waited:
            tell(
                f"waiting for the home {home}: it is missing or empty, mount its disk"
                f" (or run `furnisync service install` again for a new home)"
            )
        waited = True
        time.sleep(HOME_EVERY_S)
    if waited:
        tell(f"the home {home} is mounted")


def check_free(service: Service, state: ServiceState) -> None:
    """Refuse if the job runs outside the service, or is installed for another home.

    Raises:
        UserError: with what to stop or uninstall first.
    """
    if state.home is not None and state.home != service.home:
        raise UserError(
            f"The service {service.job} is installed for {state.home}: end that first with"
            f" `furnisync service uninstall {service.job}`."
        )
    pid = holder(HomeFiles(service.home).lock(service.job))
    if pid is not None and pid != state.pid:
        raise UserError(
            f"{service.title.capitalize()} already runs on {service.home} (pid {pid}), not as"
            f" a service: end it with `kill {pid}`, then try again."
        )


def await_start(supervisor: Supervisor, service_home: Path, job: Job) -> ServiceState:
    """Wait some seconds until the job works or has failed.

    Raises:
        UserError: it ended, with the last line of its log.
    """
    lock = HomeFiles(service_home).lock(job)
    end = time.monotonic() + SETTLE_S
    while True:
        state = supervisor.state(job)
        if state.running and (holder(lock) == state.pid or time.monotonic() > end):
            return state
        if not state.running and (state.last_exit is not None or time.monotonic() > end):
            line = last_line(log_of(service_home, job)) or "it wrote nothing"
            raise UserError(
                f"The service {job} was started and ended again ({state.last_exit}): {line}"
            )
        time.sleep(0.2)


def last_line(log: Path) -> str | None:
    """The newest line of a log; None if there is none."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 4096))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except FileNotFoundError:
        return None
    return next((line.strip() for line in reversed(lines) if line.strip()), None)


def ask_system(*command: str, timeout_s: float = 90) -> subprocess.CompletedProcess[str]:
    """Run a program of the system and return its output, whatever its exit status.

    Raises:
        UserError: it is missing, or does not answer.
    """
    try:
        return subprocess.run(  # noqa: S603 -- our own arguments, no shell
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
        )
    except FileNotFoundError:
        raise UserError(
            f"{command[0]} is not on this machine: run the sync under nohup as the README shows."
        ) from None
    except subprocess.TimeoutExpired:
        raise UserError(
            f"`{' '.join(command)}` did not answer within {timeout_s:g} s: try again."
        ) from None


def complaint_of(answer: subprocess.CompletedProcess[str]) -> str:
    """What a program complained about, on one line."""
    words = " ".join((answer.stderr.strip() or answer.stdout.strip()).split())
    return words or f"exit status {answer.returncode}"


def write_unit(path: Path, content: bytes) -> bool:
    """Write a unit atomically; whether it differs from the one before.

    One that somebody wrote or changed is kept beside, under a name that no system starts.
    """
    if path.exists() and path.read_bytes() == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    with owned.replacing(path) as file:
        file.write(content)
    return True
