"""A real sshd on this machine, for the present user, with keys of its own; and ways to break it."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from service_world import OwnSystemd, clean_environment, until

# Programs there that stop in their work while a flag lies in the folder, so that the connection
# can be broken at that point; `reached` tells that they stand there.
STALL = 'while [ -e "{flag}" ]; do touch "{flag}.reached"; sleep 0.05; done'
RSYNC = (
    'case "$*" in *--sender*) send=1 ;; *) send= ;; esac\n'
    'if [ ! -e "{flag}" ] && [ $send ]; then {real} "$@" | tee -a "{sent}"\n'
    'elif [ ! -e "{flag}" ]; then exec {real} "$@"\n'
    'elif [ $send ]; then {real} "$@" | {{ dd bs=1 count={part} 2>/dev/null; ' + STALL + "; }}\n"
    "else {{ dd bs=1 count={part} 2>/dev/null; " + STALL + '; }} | {real} "$@"\n'
    "fi"
)
PART_BYTES = 50_000
"""So much goes through rsync before it stops at its flag."""
MAKE = (
    STALL
    + """
mkdir -p venv/bin
cat > venv/bin/python <<'END'
#!/bin/sh
# The environment of the tests, with the code that was sent.
word=$(cat "{flag}.word" 2>/dev/null || echo none)
case "$*" in *"$word"*) {stall_python} ;; esac
# It is the tests' own environment: nothing is installed into it.
case "$*" in "-m pip "*) echo "$*" >> venv/pip; exit 0 ;; esac
exec "{python}" "$@"
END
chmod 755 venv/bin/python
echo "made by $1" > venv/made
"""
)


class Box:
    """The other computer: an sshd, a home, a search path with the programs above."""

    def __init__(self, root: Path, systemd: OwnSystemd | None) -> None:
        self.root = root
        self.user_home = root / "there"
        self.systemd = systemd
        self.flags = root / "flags"
        self.programs = root / "bin"
        for folder in (self.flags, self.programs, self.user_home):
            folder.mkdir(exist_ok=True)
        self.sent = root / "sent"
        self._program("rsync", RSYNC)
        self._program("make", MAKE)
        self.config = root / "ssh_config"
        self.sshd = self._start()

    # -- making it -----------------------------------------------------------------------------

    def _program(self, name: str, body: str) -> None:
        flag = str(self.flags / name)
        python = self.flags / "python"
        text = body.format(
            flag=flag,
            sent=self.sent,
            part=PART_BYTES,
            real=shutil.which(name),
            python=sys.executable,
            stall_python=STALL.format(flag=python),
        ).replace(f"{flag}.word", f"{python}.word")
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def _start(self) -> subprocess.Popen[bytes]:
        for name in ("host", "user"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.root / f"{name}_key"],
                check=True,
            )
        (self.root / "authorized").write_bytes((self.root / "user_key.pub").read_bytes())
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        variables = {
            "PATH": f"{self.programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.user_home),
            "XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}",
        }
        words = " ".join(f'"{name}={value}"' for name, value in variables.items())
        (self.root / "sshd_config").write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {self.root}/host_key\nPidFile none\n"
            f"AuthorizedKeysFile {self.root}/authorized\nStrictModes no\nUsePAM no\n"
            f"PasswordAuthentication no\nPermitRootLogin prohibit-password\nSetEnv {words}\n"
        )
        host_key = (self.root / "host_key.pub").read_text()
        (self.root / "known").write_text(f"[127.0.0.1]:{port} {host_key}")
        self.config.write_text(
            f"Host box\n HostName 127.0.0.1\n Port {port}\n User {getpass.getuser()}\n"
            f" IdentityFile {self.root}/user_key\n IdentitiesOnly yes\n IdentityAgent none\n"
            f" UserKnownHostsFile {self.root}/known\n StrictHostKeyChecking yes\n"
        )
        sshd = shutil.which("sshd") or "/usr/sbin/sshd"
        command = [sshd, "-D", "-e", "-f", str(self.root / "sshd_config")]
        if self.systemd is not None:
            line = f"mkdir -p /run/sshd; exec {shlex.join(command)}"
            command = [*self.systemd.enter, "sh", "-c", line]
        elif os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        with (self.root / "sshd.log").open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        until(lambda: self._listens(port, process), 15)
        return process

    def _listens(self, port: int, process: subprocess.Popen[bytes]) -> bool:
        assert process.poll() is None, (self.root / "sshd.log").read_text()
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", port)) == 0

    def close(self) -> None:
        self.repair()
        self.break_connections()
        for pid in reversed(tree(self.sshd.pid)):
            end(pid)
        self.sshd.wait(10)

    # -- using it ------------------------------------------------------------------------------

    def command(self, *arguments: str, host: str = "box") -> list[str]:
        return [sys.executable, "-m", "furnisync", "remote", host, *arguments]

    def environment(self) -> dict[str, str]:
        home = self.root / "here"
        home.mkdir(exist_ok=True)
        return {
            **clean_environment(),
            "FURNISYNC_SSH_CONFIG": str(self.config),
            "FURNISYNC_HOME": str(home),
        }

    def remote(self, *arguments: str, host: str = "box") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments, host=host), env=self.environment(),
            capture_output=True, text=True, check=False, timeout=280,
        )  # fmt: skip

    def remote_broken(self, flag: str, *arguments: str, word: str = "") -> tuple[int, str]:
        """Run a command and break the connection where the program `flag` stands."""
        (self.flags / flag).touch()
        if word:
            (self.flags / f"{flag}.word").write_text(word)
        reached = self.flags / f"{flag}.reached"
        process = subprocess.Popen(
            self.command(*arguments), env=self.environment(),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        until(reached.exists, 60, f"{flag} was not reached")
        time.sleep(0.2)
        self.break_connections()
        _, words = process.communicate(timeout=60)
        return process.returncode, words

    def repair(self) -> None:
        """Let what stands go on; what stood there has seen it when this returns."""
        for flag in sorted(self.flags.iterdir(), key=lambda flag: "." in flag.name):
            flag.unlink()
        time.sleep(0.2)
        for told in self.flags.iterdir():
            told.unlink()

    def mend_soon(self, after_s: float) -> None:
        threading.Timer(after_s, self.repair).start()

    def break_connections(self) -> None:
        """Kill the sshd processes of the sessions, not the one that listens."""
        listener = [pid for pid in tree(self.sshd.pid) if name_of(pid).startswith("sshd")][:1]
        for pid in tree(self.sshd.pid):
            if pid not in listener and name_of(pid).startswith("sshd"):
                end(pid)


def end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def tree(pid: int) -> list[int]:
    """A process and all under it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [pid, *(below for child in children for below in tree(int(child)))]


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except FileNotFoundError:
        return ""


def start_box(root: Path, systemd: OwnSystemd | None = None) -> Box:
    """A box, or a skip with its reason."""
    if not Path("/proc/self/task").exists():
        pytest.skip("finding sshd's sessions needs /proc")
    missing = [name for name in ("ssh", "ssh-keygen", "rsync") if shutil.which(name) is None]
    if shutil.which("sshd") is None and not Path("/usr/sbin/sshd").exists():
        missing.append("sshd (apt install openssh-server)")
    if missing:
        pytest.skip(f"no {', '.join(missing)} here")
    return Box(root, systemd)
