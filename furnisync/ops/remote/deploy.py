"""Puts this program on another computer and makes its environment there.

Both steps may break off at any moment and be repeated. The code is moved to its place only when all
of it has arrived, data and `.env` in the same folder are never touched, and a lock keeps two setups
of the environment apart.
"""

import secrets
import shlex
from collections.abc import Sequence
from pathlib import Path

import furnisync
from furnisync.errors import ConfigError
from furnisync.extras import Extra
from furnisync.ops.remote.host import CHECK_RSYNC, RemoteHost

PARTS = (
    "furnisync", "docs", "sync_images.py", "sync_data.py", "Makefile", "pyproject.toml",
    "requirements.lock", "requirements-dev.lock", "README.md", "CHANGELOG.md", "LICENSE",
    "SECURITY.md",
)  # fmt: skip
"""All that the other computer gets: no data, no key, no tests."""
LEFT_OUT = (".*", "__pycache__", "*.pyc", "*.db", "*.db-wal", "*.db-shm", "*.log")
NEEDED = ("furnisync", "Makefile", "pyproject.toml", "requirements.lock")

PYTHONS = (
    "python3", "python3.14", "python3.13", "python3.12", "python3.11",
    # Not on the path of a command over ssh on a Mac.
    "/opt/homebrew/bin/python3", "/usr/local/bin/python3",
    "/Library/Frameworks/Python.framework/Versions/Current/bin/python3",
)  # fmt: skip

FIND_PYTHON = """
for p in {names}; do
  if "$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
    command -v "$p"; exit 0
  fi
done
echo 'there is no Python 3.11 or newer: install one there, or name it with --python' >&2; exit 1
"""

UPDATE_FOLDER = ".furnisync-update"

# Our names may replace only our own files: a folder of something else is refused. Each update has
# a staging folder of its own, so that one whose connection hangs cannot mix with the next one.
STAGE_CODE = """
set -eu; umask 077
{check_rsync}
mkdir -p {folder}; cd {folder}
if [ ! -d {update} ] && [ ! -f furnisync/__init__.py ]; then
  for n in {parts}; do
    if [ -e "$n" ]; then
      echo "$n there is of something else: name another folder with --dir" >&2; exit 1
    fi
  done
fi
mkdir -p {staging}/new {staging}/old
"""

PLACE_CODE = """
set -eu; cd {folder}; n={staging}
for f in $n/new/*; do
  b=${{f##*/}}
  if [ -e "$b" ]; then mv "$b" "$n/old/$b"; fi
  mv "$f" "$b"
done
rm -rf {update}
"""

# The lock is a link to the holder's pid, made in one step. A setup whose connection broke continues
# there to its end; the next one waits for it.
MAKE_ENVIRONMENT = """
set -eu
cd {folder}; l=.furnisync-setup.lock; i=0
until ln -s $$ $l 2>/dev/null; do
  p=$(readlink $l || true)
  if [ -n "$p" ] && ! kill -0 "$p" 2>/dev/null; then rm -f $l; continue; fi
  i=$((i+1))
  if [ $i -gt {wait_s} ]; then echo "another setup still runs there (pid $p)" >&2; exit 1; fi
  sleep 1
done
trap 'rm -f $l' EXIT; trap 'exit 1' HUP INT TERM
command -v make >/dev/null || {{
  echo 'make is missing: run `xcode-select --install` (macOS) or `apt install make`' >&2; exit 1
}}
make PYTHON={python} setup </dev/null 1>&2
if [ -n '{extras}' ]; then
  venv/bin/python -m pip install --quiet --disable-pip-version-check \\
    --constraint requirements-dev.lock 'furnisync[{extras}]' </dev/null 1>&2
fi
"""
WAIT_FOR_OTHER_S = 600


def project_root() -> Path:
    """The folder of this program's own project.

    Raises:
        ConfigError: it was installed without it.
    """
    root = Path(furnisync.__file__).resolve().parents[1]
    missing = [name for name in NEEDED if not (root / name).exists()]
    if missing:
        raise ConfigError(
            f"{root} lacks {missing[0]}: `remote` sends the project's folder, so run it from a"
            " clone of the project (`make setup`, then venv/bin/furnisync)."
        )
    return root


def code_words(root: Path) -> list[str]:
    """What rsync sends of a project: the named parts, in them plain files and folders only."""
    excluded = (f"--exclude={pattern}" for pattern in LEFT_OUT)
    return ["-r", *excluded, *(str(root / part) for part in PARTS if (root / part).exists())]


def find_python(host: RemoteHost, named: str | None) -> str:
    """Find a Python there that is new enough.

    Raises:
        StepFailed: there is none.
    """
    names = " ".join(map(shlex.quote, (named,) if named else PYTHONS))
    return host.run("find a Python", FIND_PYTHON.format(names=names)).strip()


def put_code(host: RemoteHost) -> None:
    """Send this program there, then move it to its place.

    Raises:
        StepFailed: the program that was there is still whole.
    """
    step, words = "put the code there", code_words(project_root())
    staging = f"{UPDATE_FOLDER}/{secrets.token_hex(4)}"
    names = {"folder": host.quoted_folder, "update": UPDATE_FOLDER, "staging": staging}
    host.run(step, STAGE_CODE.format(**names, check_rsync=CHECK_RSYNC, parts=" ".join(PARTS)))
    host.send(step, words, f"{staging}/new/")
    host.run(step, PLACE_CODE.format(**names))


def make_environment(host: RemoteHost, python: str, extras: Sequence[Extra]) -> None:
    """Make or update the environment there; some minutes the first time.

    Args:
        host: where.
        python: the interpreter to use there.
        extras: what to install beside the core, in the versions of the locks.

    Raises:
        StepFailed: with the last line of make or pip.
    """
    script = MAKE_ENVIRONMENT.format(
        folder=host.quoted_folder,
        python=shlex.quote(python),
        extras=",".join(extras),
        wait_s=WAIT_FOR_OTHER_S,
    )
    host.run("make the environment", script)
