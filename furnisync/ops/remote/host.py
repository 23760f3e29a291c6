"""Another computer, over the user's own `ssh`: its config and keys as they are, nothing stored.

Nothing is ever asked: where ssh would ask (password, unknown host key), it fails and the error
says what to do by hand once.
"""

import re
import shlex
import subprocess
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import msgspec

from furnisync.errors import ConfigError, UserError

BROKEN = 255
"""ssh's exit status for its own troubles."""
NOT_THERE = 96
"""Exit status of our scripts where the folder has no furnisync."""

OPTIONS = (
    "BatchMode=yes",  # never ask
    "ConnectTimeout=15",
    "ServerAliveInterval=15",  # a line that went dead is noticed within a minute
    "ServerAliveCountMax=4",
)
HOST = re.compile(r"(?:[A-Za-z0-9_][\w.+-]*@)?[A-Za-z0-9_:\[][\w.:%\[\]-]*", re.ASCII)

REMEDIES = {
    "Permission denied": "let `ssh {host}` work without a password first, by `ssh-copy-id {host}`",
    "Host key verification failed": "connect once by hand with `ssh {host}` and check its key",
    "IDENTIFICATION HAS CHANGED": "connect by hand with `ssh {host}` and check its key",
    "Could not resolve": "check the name, or give it an entry in ~/.ssh/config",
    "Connection refused": "let it take ssh (macOS: System Settings > Sharing > Remote Login)",
    "timed out": "see that it is on, awake and in this network",
    "No route to host": "see that it is on, awake and in this network",
}


class StepFailed(UserError):
    """A step on the other computer failed; what it did before is kept and it can be repeated."""


class RemoteHost(msgspec.Struct, frozen=True):
    """Where furnisync lives on another computer.

    Attributes:
        name: as ssh takes it: an alias, host or user@host.
        folder: absolute, or from `~/`.
        ssh_config: instead of the user's own; for tests.
    """

    name: str
    folder: str
    ssh_config: Path | None = None

    def command(self, script: str) -> list[str]:
        """The command line that runs a POSIX shell script there, whatever the login shell is."""
        config = [] if self.ssh_config is None else ["-F", str(self.ssh_config)]
        options = [word for option in OPTIONS for word in ("-o", option)]
        shell = f"exec /bin/sh -c {shlex.quote(script)}"
        return ["ssh", *config, "-T", *options, "--", self.name, shell]

    @property
    def quoted_folder(self) -> str:
        """The folder as a word of a script there."""
        if self.folder.startswith("~/"):
            return '"$HOME"/' + shlex.quote(self.folder[2:])
        return shlex.quote(self.folder)

    def inside(self, script: str) -> str:
        """The script, run in the folder, where furnisync must be."""
        there = f"cd {self.quoted_folder} 2>/dev/null && [ -x venv/bin/python ]"
        return f"{{ {there}; }} || exit {NOT_THERE}; {script}"

    def run(self, step: str, script: str, stdin: bytes = b"") -> str:
        """Run a script to its end.

        Args:
            step: what it does, for the error.
            script: for /bin/sh.
            stdin: what it reads.

        Returns:
            its standard output.

        Raises:
            StepFailed: with its last words, or ssh's, and the remedy.
        """
        done = subprocess.run(  # noqa: S603 -- the user's ssh, every word quoted
            self.command(script), input=stdin, capture_output=True, check=False
        )
        if done.returncode != 0:
            raise self.explain(step, done.returncode, done.stderr or done.stdout)
        return done.stdout.decode("utf-8", "replace")

    def show(self, step: str, script: str) -> int:
        """Run a script whose output the user wants to see as it comes.

        Returns:
            its exit status.

        Raises:
            StepFailed: the connection, or furnisync is not there.
        """
        done = subprocess.run(  # noqa: S603
            self.command(script), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
        )
        if done.returncode in (BROKEN, NOT_THERE):
            raise self.explain(step, done.returncode, done.stderr)
        return done.returncode

    def stream(self, script: str) -> "subprocess.Popen[bytes]":
        """Begin a script whose output is data; the caller reads and waits."""
        return subprocess.Popen(  # noqa: S603
            self.command(script),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def explain(self, step: str, status: int, words: bytes | BinaryIO | None) -> StepFailed:
        """What went wrong in a step, as an error to raise."""
        raw = words if isinstance(words, bytes) else (words.read() if words else b"")
        text = raw.decode("utf-8", "replace")
        if status == NOT_THERE:
            return StepFailed(
                f"furnisync is not in {self.folder} on {self.name}, or not whole: run"
                f" `furnisync remote {self.name} setup` (with --dir for another folder)."
            )
        last = _last_line(text) or f"exit status {status}"
        if status != BROKEN:
            return StepFailed(f"{self.name}: could not {step}: {last}")
        remedy = "what is done is kept, run the same command again"
        for sign, known in REMEDIES.items():
            if sign in text:
                remedy = known.format(host=self.name)
                break
        return StepFailed(f"{self.name}: could not {step} ({last}): {remedy}.")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("furnisync: ") if lines else ""


def check_host(name: str) -> str:
    """The name of a host, as it is.

    Raises:
        ConfigError: it could be taken for an option, or holds what no host has.
    """
    if HOST.fullmatch(name) is None:
        raise ConfigError(
            f"{name!r} is no host: name it as for ssh, such as imac or me@imac.local; odd names"
            " can have an alias in ~/.ssh/config."
        )
    return name


def check_folder(folder: str) -> str:
    """A folder there, as `~/...` or absolute.

    The shell here may have made this computer's home of a `~`: that is turned back.

    Raises:
        ConfigError: a folder in which the code must not be spread out.
    """
    home = str(Path.home())
    if folder.startswith(home + "/"):
        folder = "~/" + folder[len(home) + 1 :]
    if not folder.startswith(("/", "~")):
        folder = "~/" + folder
    parts = PurePosixPath(folder).parts
    if not folder.isprintable() or ".." in parts or len(parts) < 2 or parts[0] not in ("/", "~"):
        raise ConfigError(
            f"--dir {folder!r} is no folder for furnisync: name one under the home there, such as"
            " ~/furnisync, without `..`."
        )
    return str(PurePosixPath(folder))
