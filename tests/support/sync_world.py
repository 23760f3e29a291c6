"""A home, its image sync as real processes, and the sandbox's truth to compare it with."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.processes import DEADLINE_S, FREE, Ended, ProcessHome, Run

from furnisync.sandbox.process import SandboxProcess

SMALL = {"shops": 20, "listings": 300, "images_mean": 2, "image_bytes": 3000, "pictures": 4}
WHOLE_KINDS = {"jpeg": "jpg", "png": "png", "webp": "webp", "gif": "gif"}


def small_sandbox(**options: object) -> SandboxProcess:
    return SandboxProcess(**{**SMALL, **FREE, **options})


class Home(ProcessHome):
    """A home of image sync."""

    def sync(self, *arguments: str, timeout_s: float = DEADLINE_S) -> Ended:
        return self.start(*arguments).wait(timeout_s)

    def script(self, *arguments: str) -> Run:
        """`sync_images.py`, as the user calls it."""
        return self.start(*arguments, command=("sync_images.py",))

    def run(self, *arguments: str) -> Ended:
        """Any other command of `furnisync`."""
        return self.start(*arguments, command=("-m", "furnisync")).wait(60)

    def status(self, *flags: str) -> dict[str, Any]:
        ended = self.run("status", "--json", *flags)
        assert ended.status == 0, ended.out
        found: dict[str, Any] = json.loads(ended.out)
        return found

    # -- what lies there -----------------------------------------------------------------------

    def files(self, folder: str = "images") -> dict[str, Path]:
        """Files under their final names, by path relative to the home."""
        found = (self.path / folder).glob("[0-9]*/*")
        return {str(path.relative_to(self.path)): path for path in found}

    def metadata(self, name: str = "image_metadata.json") -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path / name).read_bytes())
        return found


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def findable(sandbox: SandboxProcess) -> set[int]:
    """Active furniture listings that the search shows."""
    return {
        row["listing_id"]
        for row in sandbox.truth_listings()
        if row["findable"] and row["is_furniture"]
    }


def served(sandbox: SandboxProcess, size: str = "570xN") -> list[dict[str, Any]]:
    """Images of those listings, as the CDN serves them."""
    return [row for row in sandbox.truth_images(size) if row["findable"]]


def file_of(image: dict[str, Any], folder: str = "images") -> str:
    listing_id, extension = image["listing_id"], WHOLE_KINDS[image["kind"]]
    return f"{folder}/{listing_id % 1000:03d}/{listing_id}_{image['image_id']}.{extension}"


def check_complete(
    home: Home, size: str = "570xN", images: list[dict[str, Any]] | None = None
) -> None:
    """Compare the home with the truth: listings, files to the byte, rows, metadata."""
    assert home.sandbox is not None
    truth = served(home.sandbox, size) if images is None else images
    active = {row[0] for row in home.rows("SELECT listing_id FROM listings WHERE state='active'")}
    expected = findable(home.sandbox)
    assert active == expected, f"missing {expected - active}, too many {active - expected}"
    check_images(home, truth, size)


def check_images(home: Home, truth: list[dict[str, Any]], size: str = "570xN") -> None:
    """Every reachable image of `truth` is there to the byte and in the metadata, and no other."""
    whole = {file_of(row): row["sha256"] for row in truth if row["kind"] in WHOLE_KINDS}
    files = home.files()
    missing, extra = whole.keys() - files.keys(), files.keys() - whole.keys()
    assert not missing, f"{len(missing)} files are missing: {sorted(missing)[:5]}"
    assert not extra, f"{len(extra)} files too many: {sorted(extra)[:5]}"
    wrong = [name for name, path in files.items() if digest(path) != whole[name]]
    assert not wrong
    rows = home.rows("SELECT file, hex(sha256), bytes, size FROM images WHERE status = 'done'")
    assert {f"images/{file}": sha.lower() for file, sha, _, _ in rows} == whole
    assert all(files[f"images/{file}"].stat().st_size == length for file, _, length, _ in rows)
    assert {row[3] for row in rows} <= {size}
    check_metadata(home, truth)


def check_metadata(home: Home, truth: list[dict[str, Any]]) -> None:
    """`image_metadata.json` has exactly the promised form and says the truth of these images."""
    metadata = home.metadata()
    by_listing: dict[str, dict[int, Any]] = {}
    for listing_id, entry in metadata.items():
        assert set(entry) == {"shop_id", "images"}
        for image in entry["images"]:
            assert set(image) == {"image_id", "rank", "url", "file", "status"}
            assert image["status"] in {"pending", "done", "gone", "bad", "failed"}
            assert (image["file"] is not None) >= (image["status"] == "done")
        by_listing[listing_id] = {image["image_id"]: image for image in entry["images"]}
    for row in truth:
        image = by_listing[str(row["listing_id"])][row["image_id"]]
        assert metadata[str(row["listing_id"])]["shop_id"] == row["shop_id"]
        assert (image["rank"], image["url"]) == (row["rank"], row["urls"]["570xN"])
        if row["kind"] in WHOLE_KINDS:
            assert (image["status"], image["file"]) == ("done", file_of(row))


def check_no_partial(home: Home, truth: dict[str, str]) -> None:
    """Whatever lies under a final name is whole; `truth`: digests by file."""
    for name, path in home.files().items():
        assert digest(path) == truth[name], f"{name} is partial"


def digests(images: list[dict[str, Any]]) -> dict[str, str]:
    return {file_of(row): row["sha256"] for row in images if row["kind"] in WHOLE_KINDS}


def calls(sandbox: SandboxProcess) -> int:
    return int(sandbox.asked()["total"])


@contextmanager
def no_questions(sandbox: SandboxProcess):
    """Nothing is asked of API or CDN inside."""
    sandbox.reset_asked()
    yield
    asked = sandbox.asked()
    assert (asked["total"], asked["cdn"]["total"]) == (0, 0), asked
