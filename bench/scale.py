"""What must not grow with the dataset, at 10 million images: claims, start, status, memory.

The catalog is some 3 GB, made in the temporary folder and deleted after; `TMPDIR` names another
one. Before the start and `status` the system is made to forget the file, as after a reboot.
"""

import json
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from bench.big_catalog import IMAGES_A_LISTING, make_catalog
from bench.homes import ROOT, SMALL_IMAGES, BenchError, Home, forget_cached
from bench.rows import Row
from furnisync.catalog import image_queue
from furnisync.catalog.schema import open_catalog
from furnisync.image_job import ImageJob, ImageOutcome
from furnisync.sandbox.process import SandboxProcess
from furnisync.sqlite.database import transaction

BYTES_AN_IMAGE = 400
CLAIMS = 20
CLAIM = 500


def run(*, quick: bool) -> list[Row]:
    """Make the catalog once, then measure on it."""
    images = 20_000 if quick else 10_000_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if shutil.disk_usage(folder).free < images * BYTES_AN_IMAGE * 2:
            raise BenchError(f"{folder} needs {images * BYTES_AN_IMAGE * 2 / 1e9:.0f} GB free")
        with SandboxProcess(shops=20, listings=300, **SMALL_IMAGES, qpd=10**9) as sandbox:
            every_s = 0.2 if quick else 5.0
            home = Home(folder / "home", sandbox, images={"metadata_every_s": every_s})
            path = home.path / "catalog.db"
            make_catalog(path, images, sandbox.cdn_host, int(sandbox.now()))
            size = f"{images:,} images, {path.stat().st_size / 1e9:.1f} GB"
            rows = [*_claim_rows(path, size), _status_row(home, path, rounds=1 if quick else 5)]
            rows += _run_rows(home, path, sandbox, seconds=0.5 if quick else 60.0)
        return [*rows, *_metadata_rows(path, images // IMAGES_A_LISTING)]


def _claim_rows(path: Path, size: str) -> list[Row]:
    """Claims of the next 500 while 500 are in flight, the ones before recorded in between."""
    took_ms = []
    now = int(time.time())
    with closing(open_catalog(path)) as catalog:
        forget_cached(path)
        before: list[ImageJob] = []
        for _ in range(CLAIMS + 1):
            in_flight = frozenset(job.key for job in before)
            began = time.perf_counter()
            with transaction(catalog):
                claims = image_queue.claim_images(catalog, now, in_flight, CLAIM)
            took_ms.append(1000 * (time.perf_counter() - began))
            _record(catalog, before, now)
            before = claims
    return [
        Row(what=f"claim of the next {CLAIM}, median", value=statistics.median(took_ms[1:]),
            unit="ms", at_most=20, how=size),
        Row(what=f"claim of the next {CLAIM}, worst of {CLAIMS}", value=max(took_ms[1:]),
            unit="ms", at_most=20, how=f"the very first one after a reboot: {took_ms[0]:.1f} ms"),
    ]  # fmt: skip


def _record(catalog: sqlite3.Connection, claims: list[ImageJob], now: int) -> None:
    done = [ImageOutcome(job, "done", None, "000/1_1.jpg", 1, 1, 1, bytes(32)) for job in claims]
    with transaction(catalog):
        image_queue.record_outcomes(catalog, done, "570xN", now)


def _status_row(home: Home, path: Path, rounds: int) -> Row:
    took_s = []
    for _ in range(rounds):
        forget_cached(path)
        began = time.perf_counter()
        home.run("status", "--json")
        took_s.append(time.perf_counter() - began)
    return Row(what="`furnisync status`", value=statistics.median(took_s), unit="s", at_most=1,
               how=f"a process from its start to its end; median of {rounds}")  # fmt: skip


def _run_rows(home: Home, path: Path, sandbox: SandboxProcess, seconds: float) -> list[Row]:
    """A run for some time: pass, batches, downloads, and the metadata file in between."""
    forget_cached(path)
    sandbox.reset_asked()
    running = home.start("images", "--fast")
    running.watch(lambda: sandbox.asked()["total"])
    first = min(call["time"] for call in sandbox.asked(log=True)["log"])
    metadata = home.path / "image_metadata.json"
    end = time.monotonic() + seconds
    running.watch(lambda: time.monotonic() >= end and metadata.exists())
    asked = sandbox.asked()
    began = time.perf_counter()
    home.run("status", "--json")
    status_s = time.perf_counter() - began
    running.kill()
    how = f"in {seconds:g} s and {asked['total']} calls, {asked['cdn']['total']:,} images asked for"
    return [
        Row(what="start of `images --fast` to its first call", value=first - running.began,
            unit="s", at_most=2, how="by the sandbox's log"),
        Row(what="`furnisync status` beside that run", value=status_s, unit="s", at_most=1,
            how="every listing waits for batch: the most that there is to count"),
        Row(what="memory of that run at its peak", value=running.peak_mb, unit="MB", at_most=300,
            how=f"{how}; the metadata file written meanwhile"),
    ]  # fmt: skip


_WRITE = """
import json, os, sys, time
from contextlib import closing
from pathlib import Path
from bench.homes import peak_mb
from furnisync.catalog.schema import read_catalog
from furnisync.images.metadata import write_metadata
with closing(read_catalog(Path(sys.argv[1]))) as catalog:
    began = time.perf_counter()
    listings = write_metadata(catalog, Path(sys.argv[2]), "images")
    print(json.dumps([listings, time.perf_counter() - began, peak_mb(os.getpid())]))
"""


def _metadata_rows(path: Path, listings: int) -> list[Row]:
    """The file written by a process that does nothing else."""
    command = [sys.executable, "-c", _WRITE, str(path), str(path.with_name("metadata.json"))]
    out = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    written, took_s, memory_mb = json.loads(out)
    assert written >= listings
    return [
        Row(what="image_metadata.json: memory at its peak", value=memory_mb, unit="MB",
            at_most=300, how=f"{written:,} listings"),
        Row(what="image_metadata.json: listings a second", value=written / took_s,
            how=f"{took_s:.0f} s in all"),
    ]  # fmt: skip
