"""Puts this program on another computer and makes its environment there.

Both can break off at any moment and be repeated: the code is laid in place only when all of it has
arrived, data and `.env` that lie in the same folder are never touched, and a lock keeps two makes
of the environment apart.
"""

import io
import shlex
import tarfile
from collections.abc import Sequence
from pathlib import Path

import furnisync
from furnisync.errors import ConfigError
from furnisync.extras import Extra
from furnisync.ops.remote.host import RemoteHost

PARTS = (
    "furnisync", "docs", "sync_images.py", "sync_data.py", "Makefile", "pyproject.toml",
    "requirements.lock", "requirements-dev.lock", "README.md", "CHANGELOG.md", "LICENSE",
    "SECURITY.md",
)  # fmt: skip
"""All that the other computer gets: no data, no key, no tests."""
NO_CODE = (".db", ".db-wal", ".db-shm", ".log", ".pyc")
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

# Our names may replace only what is ours: a folder of something else is refused. Each try has a
# folder of its own, so that one whose connection hangs can never meet the next one's.
PUT_CODE = """
set -eu; umask 077
mkdir -p {folder}; cd {folder}; u=.furnisync-update
if [ ! -d $u ] && [ ! -f furnisync/__init__.py ]; then
  for n in {parts}; do
    if [ -e "$n" ]; then
      echo "$n there is of something else: name another folder with --dir" >&2; exit 1
    fi
  done
fi
n=$u/$$; mkdir -p $n/new $n/old; cat > $n/code
if [ $(wc -c < $n/code) -ne {size} ]; then echo 'not all of it arrived' >&2; exit 1; fi
tar -xmzf $n/code -C $n/new
for f in $n/new/*; do
  b=${{f##*/}}
  if [ -e "$b" ]; then mv "$b" "$n/old/$b"; fi
  mv "$f" "$b"
done
rm -rf $u
"""

# The lock is a link whose target is the holder's number, made in one step. A make whose connection
# broke goes on there to its end; the next one waits for it.
MAKE_ENVIRONMENT = """
set -eu
cd {folder}; l=.furnisync-setup.lock; i=0
until ln -s $$ $l 2>/dev/null; do
  p=$(readlink $l || true)
  if [ -n "$p" ] && ! kill -0 "$p" 2>/dev/null; then rm -f $l; continue; fi
  i=$((i+1))
  if [ $i -gt {wait_s} ]; then echo "another setup is still at work there (pid $p)" >&2; exit 1; fi
  sleep 1
done
trap 'rm -f $l' EXIT; trap 'exit 1' HUP INT TERM
command -v make >/dev/null || {{
  echo 'make is not there: run `xcode-select --install` (macOS) or `apt install make`' >&2; exit 1
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


def pack_code(root: Path) -> bytes:
    """The project as a compressed tar: named parts only, plain files and folders only."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for part in PARTS:
            if (root / part).exists():
                tar.add(root / part, arcname=part, filter=_only_code)
    return packed.getvalue()


def _only_code(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = member.name.rsplit("/", 1)[-1]
    if not (member.isfile() or member.isdir()) or name == "__pycache__" or name.startswith("."):
        return None
    if name.endswith(NO_CODE):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


def find_python(host: RemoteHost, named: str | None) -> str:
    """A Python there that is new enough.

    Raises:
        StepFailed: there is none.
    """
    names = " ".join(map(shlex.quote, (named,) if named else PYTHONS))
    return host.run("find a Python", FIND_PYTHON.format(names=names)).strip()


def put_code(host: RemoteHost) -> None:
    """Send this program there and lay it in place.

    Raises:
        StepFailed: what was there before is still there, whole.
    """
    packed = pack_code(project_root())
    script = PUT_CODE.format(folder=host.quoted_folder, parts=" ".join(PARTS), size=len(packed))
    host.run("put the code there", script, packed)


def make_environment(host: RemoteHost, python: str, extras: Sequence[Extra]) -> None:
    """Make or update the environment there; some minutes the first time.

    Args:
        host: where.
        python: the one to use there.
        extras: what to install beside what running needs, in the versions of the locks.

    Raises:
        StepFailed: with what make or pip said last.
    """
    script = MAKE_ENVIRONMENT.format(
        folder=host.quoted_folder,
        python=shlex.quote(python),
        extras=",".join(extras),
        wait_s=WAIT_FOR_OTHER_S,
    )
    host.run("make the environment", script)
