"""Another computer, over the user's own `ssh` and `rsync`: their config and keys, nothing stored.

Nothing ever prompts: where ssh would ask (password, unknown host key), it fails and the error says
what to do by hand once. Files go by rsync with options that rsync 2.6.9, rsync 3 and macOS's
openrsync know. The folder's name is never part of an rsync path, since they quote it differently:
our own shell there changes into the folder first.
"""

import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import msgspec

from furnisync.errors import ConfigError, UserError

CONNECTION_FAILED = 255
"""ssh's exit status where the connection fails."""
NOT_INSTALLED = 96
"""Exit status of our scripts where the folder has no furnisync."""

OPTIONS = (
    "BatchMode=yes",  # never ask
    "ConnectTimeout=15",
    "ServerAliveInterval=15",  # a dead connection is noticed within a minute
    "ServerAliveCountMax=4",
)
HOST = re.compile(r"(?:[A-Za-z0-9_][\w.+-]*@)?[A-Za-z0-9_:\[][\w.:%\[\]-]*", re.ASCII)

NO_RSYNC = "rsync is missing: run `apt install rsync` (Linux) or `brew install rsync` (macOS)"
CHECK_RSYNC = f"command -v rsync >/dev/null || {{ echo '{NO_RSYNC}' >&2; exit 1; }};"
"""First part of a script there before files go."""

REMEDIES = {
    "No space left": "make room on its disk, then run the same command again",
    "Permission denied (13)": "correct the permissions, then run the same command again",
    "Permission denied": "let `ssh {host}` work without a password first, by `ssh-copy-id {host}`",
    "Host key verification failed": "connect once by hand with `ssh {host}` and check its key",
    "IDENTIFICATION HAS CHANGED": "connect by hand with `ssh {host}` and check its key",
    "Could not resolve": "check the name, or give it an entry in ~/.ssh/config",
    "Connection refused": "let it take ssh (macOS: System Settings > Sharing > Remote Login)",
    "timed out": "check that it is on, awake and in this network",
    "No route to host": "check that it is on, awake and in this network",
}


class StepFailed(UserError):
    """A step on the other computer failed; finished steps are kept and it can be repeated."""


class RemoteHost(msgspec.Struct, frozen=True):
    """Where furnisync is installed on another computer.

    Attributes:
        name: as ssh takes it: an alias, host or user@host.
        folder: absolute, or from `~/`.
        ssh_config: instead of the user's own; for tests.
    """

    name: str
    folder: str
    ssh_config: Path | None = None

    @property
    def ssh(self) -> list[str]:
        """The ssh command with our options, without the host."""
        config = [] if self.ssh_config is None else ["-F", str(self.ssh_config)]
        return ["ssh", *config, "-T", *(word for option in OPTIONS for word in ("-o", option))]

    def command(self, script: str) -> list[str]:
        """The command line that runs a POSIX shell script there, whatever the login shell is."""
        return [*self.ssh, "--", self.name, f"exec /bin/sh -c {shlex.quote(script)}"]

    @property
    def quoted_folder(self) -> str:
        """The folder as a word of a script there."""
        if self.folder.startswith("~/"):
            return '"$HOME"/' + shlex.quote(self.folder[2:])
        return shlex.quote(self.folder)

    def inside(self, script: str) -> str:
        """The script, run in the folder, where furnisync must be."""
        installed = f"cd {self.quoted_folder} 2>/dev/null && [ -x venv/bin/python ]"
        return f"{{ {installed}; }} || exit {NOT_INSTALLED}; {script}"

    def run(self, step: str, script: str) -> str:
        """Run a script to its end.

        Args:
            step: what it does, for the error.
            script: for /bin/sh.

        Returns:
            its standard output.

        Raises:
            StepFailed: with the last line of its output, or ssh's, and the remedy.
        """
        done = subprocess.run(  # noqa: S603 -- the user's ssh, every word quoted
            self.command(script), stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        if done.returncode != 0:
            raise self._explain(step, done.returncode, done.stderr or done.stdout)
        return done.stdout.decode("utf-8", "replace")

    def show(self, step: str, script: str) -> int:
        """Run a script whose output the user wants to see as it comes.

        Returns:
            its exit status.

        Raises:
            StepFailed: the connection failed, or furnisync is not there.
        """
        done = subprocess.run(  # noqa: S603 -- as above
            self.command(script), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
        )
        if done.returncode in (CONNECTION_FAILED, NOT_INSTALLED):
            raise self._explain(step, done.returncode, done.stderr)
        return done.returncode

    def send(self, step: str, words: Sequence[str], to: str) -> None:
        """Send files with rsync.

        Args:
            step: what it does, for the error.
            words: options and files of this computer.
            to: a path there below the folder, of letters that no shell reads differently.

        Raises:
            StepFailed: with rsync's or ssh's last line, and the remedy.
        """
        words = [*words, f"{self._rsync_name}:{to}"]
        self._rsync(step, self.quoted_folder, words, stdout=subprocess.DEVNULL)

    def fetch(self, step: str, path: str, to: Path, *, progress: bool) -> None:
        """Bring a file with rsync; what arrived before a break is kept and used by the next call.

        Args:
            step: what it does, for the error.
            path: absolute, there.
            to: the file here; a file that it is similar to saves most of the transfer.
            progress: let rsync show how far it is.

        Raises:
            StepFailed: with rsync's or ssh's last line, and the remedy.
        """
        folder, _, name = path.rpartition("/")
        # --ignore-times: equal size and time do not prove that the content is equal.
        words = ["--inplace", "--partial", "--ignore-times", f"{self._rsync_name}:{name}", str(to)]
        if progress:
            self._rsync(step, shlex.quote(folder), ["--progress", *words], stdout=None)
        else:
            self._rsync(step, shlex.quote(folder), words, stdout=subprocess.DEVNULL)

    @property
    def _rsync_name(self) -> str:
        """The host as rsync takes it, which ends at a colon that is in no brackets."""
        user, at, host = self.name.rpartition("@")
        return f"{user}{at}[{host}]" if ":" in host and "[" not in host else self.name

    def _rsync(
        self, step: str, quoted_folder: str, words: Sequence[str], *, stdout: int | None
    ) -> None:
        script = f'umask 077; cd {quoted_folder} && exec rsync "$@"'
        program = f"exec /bin/sh -c {shlex.quote(script)} rsync"
        command = ["rsync", "-e", shlex.join(self.ssh), "--rsync-path", program, *words]
        try:
            done = subprocess.run(  # noqa: S603 -- the user's rsync, every word quoted
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=subprocess.PIPE,
                check=False,
            )
        except FileNotFoundError:
            raise StepFailed(f"On this computer {NO_RSYNC}.") from None
        if done.returncode != 0:  # rsync's own statuses differ from version to version
            raise self._explain(step, CONNECTION_FAILED, done.stderr)

    def _explain(self, step: str, status: int, output: bytes) -> StepFailed:
        """Why a step failed, as an error to raise."""
        text = output.decode("utf-8", "replace")
        if status == NOT_INSTALLED:
            return StepFailed(
                f"furnisync is not installed in {self.folder} on {self.name}, or only partly: run"
                f" `furnisync remote {self.name} setup` (with --dir for another folder)."
            )
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        # The last line of rsync only repeats its status.
        last = next((line for line in reversed(lines) if not line.startswith("rsync error:")), "")
        last = last.removeprefix("furnisync: ") or f"exit status {status}"
        if status != CONNECTION_FAILED:
            return StepFailed(f"{self.name}: could not {step}: {last}")
        remedy = "finished steps are kept, run the same command again"
        for sign, known in REMEDIES.items():
            if sign in text:
                last = next(line for line in lines if sign in line)
                remedy = known.format(host=self.name)
                break
        return StepFailed(f"{self.name}: could not {step} ({last}): {remedy}.")


def check_host(name: str) -> str:
    """The name of a host, unchanged.

    Raises:
        ConfigError: it could be taken for an option, or has characters that no host has.
    """
    if HOST.fullmatch(name) is None:
        raise ConfigError(
            f"{name!r} is no host: name it as for ssh, such as imac or me@imac.local; odd names"
            " can have an alias in ~/.ssh/config."
        )
    return name


def check_folder(folder: str) -> str:
    """A folder there, as `~/...` or absolute.

    The shell here may have replaced `~` by this computer's home: that is reversed.

    Raises:
        ConfigError: a folder in which the code must not be put.
    """
    home = str(Path.home())
    if folder.startswith(home + "/"):
        folder = "~/" + folder[len(home) + 1 :]
    if not folder.startswith(("/", "~")):
        folder = "~/" + folder
    parts = PurePosixPath(folder).parts
    if not folder.isprintable() or ".." in parts or len(parts) < 2 or parts[0] not in ("/", "~"):
        raise ConfigError(
            f"--dir {folder!r} cannot hold furnisync: name a folder under the home there, such as"
            " ~/furnisync, without `..`."
        )
    return str(PurePosixPath(folder))
