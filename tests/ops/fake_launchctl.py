"""A `launchctl` that knows the few verbs we use, answers as a Mac's does, and really runs the job.

Its state is a folder (FAKE_LAUNCHD): a file for each loaded agent. FAKE_GUI=no: nobody is logged in
at the screen. The job's keeper is a process of this file too (`keep`).
"""

import contextlib
import json
import os
import plistlib
import signal
import subprocess
import sys
import time
from pathlib import Path

STATE = Path(os.environ["FAKE_LAUNCHD"])
PAUSE_S = 0.3


def main(verb, *arguments):
    with (STATE / "calls.txt").open("a") as file:
        file.write(" ".join((verb, *arguments)) + "\n")
    sys.exit({"print": show, "enable": enable, "bootstrap": bootstrap, "bootout": bootout,
              "keep": keep}[verb](*arguments))  # fmt: skip


def loaded(target):
    return STATE / target.replace("/", "_")


def write(path, facts):
    part = path.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps(facts))
    part.rename(path)


def show(target):
    if target.count("/") == 1:
        return 112 if target.startswith("gui") and os.environ.get("FAKE_GUI") == "no" else 0
    if not loaded(target).exists():
        print(f'Bad request.\nCould not find service "{target}"', file=sys.stderr)
        return 113
    facts = json.loads(loaded(target).read_text())
    state = "running" if facts["pid"] else "not running"
    print(f"{target} = {{\n\tactive count = 1\n\tstate = {state}")
    print(
        f"\n\tdomain = gui\n\tminimum runtime = 60\n\texit timeout = 30\n\truns = {facts['runs']}"
    )
    if facts["pid"]:
        print(f"\tpid = {facts['pid']}")
    print(f"\tlast exit code = {facts['last']}")
    print("\n\tspawn type = daemon (3)\n\tendpoints = {\n\t\tpid = 1\n\t}\n}")
    return 0


def enable(_target):
    return 0


def bootstrap(domain, plist):
    if domain.startswith("gui") and os.environ.get("FAKE_GUI") == "no":
        print("Bootstrap failed: 125: Domain does not support specified action", file=sys.stderr)
        return 125
    target = f"{domain}/{plistlib.loads(Path(plist).read_bytes())['Label']}"
    if loaded(target).exists():
        print("Bootstrap failed: 5: Input/output error", file=sys.stderr)
        return 5
    write(loaded(target), {"pid": 0, "runs": 0, "last": "(never exited)"})
    subprocess.Popen(
        [sys.executable, __file__, "keep", target, plist],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return 0


def keep(target, plist):
    agent = plistlib.loads(Path(plist).read_bytes())
    path = loaded(target)
    facts = {"runs": 0, "last": "(never exited)"}
    while path.exists():
        with Path(agent["StandardOutPath"]).open("ab") as out:
            job = subprocess.Popen(
                agent["ProgramArguments"], cwd=agent["WorkingDirectory"], start_new_session=True,
                env={**os.environ, **agent["EnvironmentVariables"]}, stdin=subprocess.DEVNULL,
                stdout=out, stderr=out)  # fmt: skip
        facts["runs"] += 1
        write(path, {**facts, "pid": job.pid})
        status = job.wait()
        facts["last"] = str(status) if status >= 0 else "(killed)"
        # What a real launchd does to those that a job leaves behind.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
        if (STATE / "leaving").exists():
            path.unlink()
            (STATE / "leaving").unlink()
            return 0
        write(path, {**facts, "pid": 0})
        if status == 0 and agent["KeepAlive"] == {"SuccessfulExit": False}:
            return 0
        time.sleep(PAUSE_S)
    return 0


def bootout(target):
    if not loaded(target).exists():
        return 3
    facts = json.loads(loaded(target).read_text())
    if (STATE / "leaving").exists():
        print("Boot-out failed: 36: Operation now in progress", file=sys.stderr)
        return 36
    if not facts["pid"]:
        loaded(target).unlink()
        return 0
    (STATE / "leaving").touch()
    os.kill(facts["pid"], signal.SIGTERM)
    return 0


main(*sys.argv[1:])
