"""Checks that every locked version has a wheel for each platform and Python that we support.

Run by `make check-wheels`. It asks the package indexes that pip is configured with (PEP 503 and
691). Exit status: 0 all have one, 1 a wheel is missing, 2 an index gave no answer for a package.
"""

import ast
import json
import re
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
LOCKS = (ROOT / "requirements.lock", ROOT / "requirements-dev.lock")
PYTHONS = ((3, 11), (3, 12), (3, 13))
OLDEST_MACOS = (13, 0)
NEWEST_GLIBC = 28
"""The newest minor version of glibc 2 that a wheel may ask for: Debian 10, Ubuntu 20.04, RHEL 8."""
JSON = "application/vnd.pypi.simple.v1+json"
TIMEOUT_S = 60.0
CONNECTIONS = 8


@dataclass(frozen=True)
class Target:
    """A Python on a platform: what its markers say and which wheels it takes."""

    name: str
    environment: dict[str, str | AbstractSet[str]]
    tags: frozenset[Tag]


def targets() -> Iterator[Target]:
    """All that we support."""
    linux = [f"manylinux_2_{minor}" for minor in range(NEWEST_GLIBC, 16, -1)] + ["manylinux2014"]
    old = ["manylinux2010", "manylinux1"]
    platforms = {
        ("linux", "x86_64"): [f"{one}_x86_64" for one in (*linux, *old)],
        ("linux", "aarch64"): [f"{one}_aarch64" for one in linux],
        ("darwin", "x86_64"): list(mac_platforms(OLDEST_MACOS, "x86_64")),
        ("darwin", "arm64"): list(mac_platforms(OLDEST_MACOS, "arm64")),
    }
    for python in PYTHONS:
        version = ".".join(map(str, python))
        for (system, machine), names in platforms.items():
            interpreter = f"cp{python[0]}{python[1]}"
            tags = {
                *cpython_tags(python, platforms=names),
                *compatible_tags(python, interpreter, names),
            }
            environment: dict[str, str | AbstractSet[str]] = {
                "python_version": version,
                "python_full_version": f"{version}.0",
                "implementation_name": "cpython",
                "platform_python_implementation": "CPython",
                "os_name": "posix",
                "sys_platform": system,
                "platform_system": system.title(),
                "platform_machine": machine,
            }
            name = f"Python {version} on {system} {machine}"
            yield Target(name, environment, frozenset(tags))


def read_locks(paths: Sequence[Path] = LOCKS) -> list[Requirement]:
    """What the locks pin, each pin once."""
    lines = {
        line for path in paths for line in path.read_text("utf-8").splitlines() if "==" in line
    }
    return [Requirement(line) for line in sorted(lines)]


def missing_wheels(
    pin: Requirement, wheels: dict[Version, set[Tag]], wanted: Sequence[Target]
) -> list[str]:
    """The targets that install a pin and find no wheel of it."""
    version = Version(next(iter(pin.specifier)).version)
    tags = wheels.get(version, set())
    return [
        target.name
        for target in wanted
        if (pin.marker is None or pin.marker.evaluate(target.environment))
        and target.tags.isdisjoint(tags)
    ]


# -- the index -------------------------------------------------------------------------------------


class NoAnswer(Exception):
    """No index told what it has of a package."""


@dataclass(frozen=True)
class Indexes:
    """The package indexes of this machine.

    Attributes:
        urls: of simple repositories, `file:` too.
        certificates: a file of authorities instead of the system's.
    """

    urls: tuple[str, ...]
    certificates: str | None

    def wheels(self, name: str) -> dict[Version, set[Tag]]:
        """Tags of all wheels of a package, by version.

        Raises:
            NoAnswer: an index cannot be reached, or none knows the package.
        """
        names = [file for url in self.urls for file in self._files(url, canonicalize_name(name))]
        if not names:
            raise NoAnswer("no index has it")
        found: dict[Version, set[Tag]] = {}
        for file in names:
            if file.endswith(".whl"):
                try:
                    _, version, _, tags = parse_wheel_filename(file)
                except InvalidWheelFilename:  # of before the form was settled
                    continue
                found.setdefault(version, set()).update(tags)
        return found

    def _files(self, url: str, name: str) -> list[str]:
        page = f"{url.rstrip('/')}/{name}/"
        if page.startswith("file:"):
            page += "index.html"
        request = urllib.request.Request(page, headers={"Accept": f"{JSON}, text/html;q=0.1"})
        context = ssl.create_default_context(cafile=self.certificates)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=context) as answer:
                body, kind = answer.read(), answer.headers.get_content_type()
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return []
            raise NoAnswer(f"an index answers {error.code}") from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, FileNotFoundError):
                return []
            raise NoAnswer(f"an index cannot be reached ({error.reason})") from error
        except OSError as error:
            raise NoAnswer(f"an index broke off ({error})") from error
        if kind == JSON:
            return [one["filename"] for one in json.loads(body)["files"] if not one.get("yanked")]
        return _links(body.decode("utf-8", "replace"))


def _links(page: str) -> list[str]:
    """File names of a PEP 503 page, without what was taken back."""
    found: list[str] = []

    class Links(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            given = dict(attrs)
            if tag == "a" and given.get("href") and "data-yanked" not in given:
                path = urllib.request.url2pathname((given["href"] or "").partition("#")[0])
                found.append(path.rpartition("/")[2])

    Links().feed(page)
    return found


def read_indexes() -> Indexes:
    """The indexes of pip's configuration, or else the one that pip names as its default."""
    pip = [sys.executable, "-m", "pip"]
    run = partial(subprocess.run, capture_output=True, text=True, check=True)
    settings: dict[str, str] = {}
    lines = run([*pip, "config", "list"]).stdout.splitlines()
    rank = (":env:", "install", "global")  # whichever comes first decides
    for line in sorted(lines, key=lambda line: -_rank(line, rank)):
        name, _, value = line.partition("=")
        settings[name.partition(".")[2]] = str(ast.literal_eval(value))
    urls = settings.get("index-url", "").split()
    if not urls:
        words = " ".join(run([*pip, "install", "--help"]).stdout.split())
        urls = re.findall(r"Base URL of the Python Package Index \(default (\S+?)\)", words)
    return Indexes((*urls, *settings.get("extra-index-url", "").split()), settings.get("cert"))


def _rank(line: str, rank: Sequence[str]) -> int:
    section = line.partition(".")[0]
    return rank.index(section) if section in rank else len(rank)


def main() -> int:
    """Check the locks and print what is missing."""
    indexes, wanted, pins = read_indexes(), list(targets()), read_locks()
    unknown = lacking = 0

    def ask(pin: Requirement) -> list[str] | NoAnswer:
        try:
            return missing_wheels(pin, indexes.wheels(pin.name), wanted)
        except NoAnswer as error:
            return error

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        for pin, found in zip(pins, threads.map(ask, pins), strict=True):
            if isinstance(found, NoAnswer):
                unknown += 1
                print(f"{pin}: not checked, {found}")
            elif found:
                lacking += 1
                print(f"{pin}: no wheel for {', '.join(found)}")
    print(f"{len(pins)} pins: {lacking} lack a wheel, {unknown} could not be checked.")
    return 1 if lacking else 2 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
