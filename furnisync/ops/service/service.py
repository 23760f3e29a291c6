"""The two jobs as services of the operating system: what both systems have in common.

    furnisync service install           launchd (macOS)              systemd --user (Linux)
            |                               |                              |
         Service -------- unit file: agent .plist -------------- .service unit
                                            |                              |
                              both start `furnisync service run JOB`, which keeps
                              its own log (service_log.py) and runs the sync

The units hold where the home lies and nothing secret: the key stays in `.env`.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

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
"""A sync ends within 5 s of the signal; a slow disk gets more before it is killed."""
HOME_EVERY_S = 5.0
"""How often a service whose home is not there looks again."""
SETTLE_S = 10.0
"""A start that goes wrong for a reason that the user can mend shows itself within this."""


class Service(msgspec.Struct, frozen=True):
    """One job of one home as a service.

    Attributes:
        folder: where it runs; a `.env` there is read like in the home. The root where the home
            has its own `.env`: a home that is not mounted must not keep the service from starting.
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
        """The log that the service keeps and rotates itself."""
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
    """How a service stands.

    Attributes:
        home: where the installed unit works; None where there is none.
        at_boot: whether it starts without anyone starting it.
        since: unix time at which it started, or ended where it does not run; None if unknown.
        last_exit: how the last run ended, in words; None where none did.
        restarts: starts by the system after crashes; None where it does not tell.
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


class Supervisor(Protocol):
    """launchd or systemd, as this program uses them. Each raises UserError where it refuses."""

    name: Under

    def unit(self, job: Job) -> Path:
        """Where the unit file lies."""
        ...

    def install(self, service: Service) -> None:
        """Write the unit, let it start at boot, start it (anew where the unit changed)."""
        ...

    def uninstall(self, job: Job) -> None:
        """Stop it and take the unit away; nothing happens where there is none."""
        ...

    def start(self, job: Job) -> None:
        """Start it if it does not run."""
        ...

    def stop(self, job: Job) -> None:
        """End it cleanly; returns when it has ended."""
        ...

    def state(self, job: Job) -> ServiceState:
        """How it stands."""
        ...

    def notices(self, service: Service) -> list[str]:
        """What the user should know or do for it to run at all times."""
        ...


def log_of(home: Path, job: Job) -> Path:
    """The log file of a service."""
    return home / "logs" / f"{job}.log"


def describe_service(job: Job) -> Service:
    """The service of the present home, checked for what would end it at once.

    Raises:
        UserError: no key that a service could see, or a path that no unit can hold.
    """
    home = read_environment().home
    # A service sees nothing of this shell, so the key must be where it will look for it.
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
            raise UserError(f"{str(path)!r} holds a character that no unit can: rename the folder.")
    return service


def mark_home(home: Path) -> None:
    """Give the home its mark, by which a service knows that its disk is mounted.

    Raises:
        UserError: the home cannot be written.
    """
    ensure_home_id(home)


def await_home(home: Path, tell: Callable[[str], None]) -> None:
    """Wait, for ever if need be, until the home is there; nothing is made in an empty mount point.

    Args:
        home: as the unit names it.
        tell: takes what is being waited for, once, and that it is over.
    """
    waited = False
    while not home_is_here(home):
        if not waited:
            tell(
                f"waiting for the home {home}: it is not there or empty, mount its disk"
                f" (or run `furnisync service install` again for a new home)"
            )
        waited = True
        time.sleep(HOME_EVERY_S)
    if waited:
        tell(f"the home {home} is there")


def check_free(service: Service, state: ServiceState) -> None:
    """Refuse where the job runs outside the service, or is installed for another home.

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
            f" a service: end it with `kill {pid}`, then go on here."
        )


def await_start(supervisor: Supervisor, service_home: Path, job: Job) -> ServiceState:
    """Wait until the job works or has shown that it cannot; some seconds.

    Raises:
        UserError: it ended, with its own last words.
    """
    lock = HomeFiles(service_home).lock(job)
    end = time.monotonic() + SETTLE_S
    while True:
        state = supervisor.state(job)
        if state.running and (holder(lock) == state.pid or time.monotonic() > end):
            return state
        if not state.running and (state.last_exit is not None or time.monotonic() > end):
            words = last_words(log_of(service_home, job)) or "it wrote nothing"
            raise UserError(
                f"The service {job} was started and ended again ({state.last_exit}): {words}"
            )
        time.sleep(0.2)


def last_words(log: Path) -> str | None:
    """The newest line of a log, without its time; None where there is none."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 4096))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except FileNotFoundError:
        return None
    told = [line for line in lines if line.strip()]
    return told[-1].strip() if told else None


def ask_system(*command: str, timeout_s: float = 90) -> subprocess.CompletedProcess[str]:
    """Run a program of the system and hand back what it said, whatever its exit status.

    Raises:
        UserError: it is not there, or does not answer.
    """
    try:
        return subprocess.run(  # noqa: S603 -- our own words, no shell
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


def told(answer: subprocess.CompletedProcess[str]) -> str:
    """What a program complained of, on one line."""
    words = " ".join((answer.stderr.strip() or answer.stdout.strip()).split())
    return words or f"exit status {answer.returncode}"


def write_unit(path: Path, content: bytes) -> bool:
    """Write a unit whole; whether it differs from what was there.

    One that somebody wrote or changed is kept beside, under a name that no system starts.
    """
    if path.exists() and path.read_bytes() == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    with owned.replacing(path) as file:
        file.write(content)
    return True
