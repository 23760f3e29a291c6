"""Image download against a bare loop: images a second, CPU for each image.

    python bench/download.py [--images 4000] [--rounds 5] [--connections 16,64] [--folder DIR]

One server (nginx where it is installed, else a Python process) serves JPEGs of 45 kB over loopback.
Three clients take turns, each with fresh folders and a flushed disk:

- bare: a plain pycurl multi loop that writes each body to its final name and checks nothing;
- duty: the same loop with what is asked for whatever the client: sha256, rename, rows; no checks;
- ours: `Downloader` with all its checks, sha256, rename, and rows in a SQLite table by 500.

Read the ratios, not the figures: wanted are at least 80 % of the images a second at no more than
1.6 times the CPU (of the client's process alone). Medians over the rounds; the spread is shown
beside.
"""

import argparse
import asyncio
import contextlib
import hashlib
import io
import os
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pycurl
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.rows import Row
from furnisync.clock import SystemClock
from furnisync.download.downloader import Downloader
from furnisync.download.limits import DownloadLimits
from furnisync.image_job import ImageJob, ImageOutcome
from furnisync.store.folder import FolderStore

BODY_BYTES = 45_000
BODIES = 16
ROWS_AT_ONCE = 500
WANTED_SPEED, WANTED_CPU = 0.8, 1.6


class Round(NamedTuple):
    """One client's run over all images."""

    per_second: float
    cpu_s_per_1000: float


# --- the two clients


def fetch_bare(base: str, images: int, connections: int, folder: Path) -> None:
    """Fetch with nothing but pycurl and write files."""

    def keep(number: int, body: bytes) -> None:
        with open(_file(folder, number), "wb", buffering=0) as file:  # noqa: PTH123 - bare
            file.write(body)

    _loop(base, images, connections, keep)


def fetch_duty(base: str, images: int, connections: int, folder: Path) -> None:
    """The bare loop, and sha256, a temporary file and its rename, rows."""
    done: list[ImageOutcome] = []
    (folder / ".partial").mkdir()
    with contextlib.closing(_open_table(folder / "rows.db")) as rows:

        def keep(number: int, body: bytes) -> None:
            digest = hashlib.sha256(body).digest()
            partial = f"{folder}/.partial/{number}"
            with open(partial, "wb", buffering=0) as file:  # noqa: PTH123 - bare
                file.write(body)
            os.replace(partial, _file(folder, number))  # noqa: PTH105 - bare
            job = ImageJob(number, number, "")
            done.append(ImageOutcome(job, "done", size_bytes=len(body), sha256=digest))
            if len(done) >= ROWS_AT_ONCE:
                _append_rows(rows, done)
                done.clear()

        _loop(base, images, connections, keep)
        _append_rows(rows, done)


def _file(folder: Path, number: int) -> str:
    return f"{folder}/{number % 1000:03d}/{number}_{number}.jpg"


def _loop(base: str, images: int, connections: int, keep: Callable[[int, bytes], None]) -> None:
    multi = pycurl.CurlMulti()
    multi.setopt(pycurl.M_MAXCONNECTS, connections)
    pieces: dict[pycurl.Curl, list[bytes]] = {}
    for _ in range(connections):
        curl = pycurl.Curl()
        pieces[curl] = []
        curl.setopt(pycurl.WRITEFUNCTION, pieces[curl].append)
        curl.setopt(pycurl.NOSIGNAL, 1)
    idle, number, numbers, done = list(pieces), 0, {}, 0
    while done < images:
        while idle and number < images:
            curl = idle.pop()
            curl.setopt(pycurl.URL, f"{base}/{number}.jpg")
            numbers[curl] = number
            multi.add_handle(curl)
            number += 1
        multi.select(1.0)
        multi.perform()
        _, good, wrong = multi.info_read(connections)
        assert not wrong, wrong
        for curl in good:
            keep(numbers[curl], b"".join(pieces[curl]))
            pieces[curl].clear()
            multi.remove_handle(curl)
            idle.append(curl)
            done += 1
    for curl in pieces:
        curl.close()
    multi.close()


def fetch_ours(base: str, images: int, connections: int, folder: Path) -> None:
    """Fetch with all checks, and note each image in a table."""
    host = base.removeprefix("http://")
    limits = DownloadLimits(
        connections=connections,
        per_second=0.0,
        max_bytes=50_000_000,
        max_pixels=150_000_000,
        timeout_s=60.0,
        allowed_hosts=frozenset({host}),
        user_agent="furnisync-bench",
    )
    with contextlib.closing(_open_table(folder / "rows.db")) as rows:
        downloader = Downloader(FolderStore(folder), limits, SystemClock())
        downloader.submit(ImageJob(n, n, f"{base}/{n}.jpg") for n in range(images))
        done: list[ImageOutcome] = []
        while downloader.waiting or downloader.active:
            done += downloader.poll(1.0)
            if len(done) >= ROWS_AT_ONCE:
                _append_rows(rows, done)
                done.clear()
        _append_rows(rows, done)
        downloader.close()
        (stored,) = rows.execute("SELECT count(*) FROM images WHERE status = 'done'").fetchone()
        assert stored == images, f"{stored} of {images} images stored"


def _open_table(path: Path) -> sqlite3.Connection:
    rows = sqlite3.connect(path, isolation_level=None)
    rows.execute("PRAGMA journal_mode = WAL")
    rows.execute("PRAGMA synchronous = NORMAL")
    rows.execute(
        "CREATE TABLE images (listing_id INTEGER, image_id INTEGER, status TEXT, bytes INTEGER,"
        " width INTEGER, height INTEGER, sha256 BLOB, PRIMARY KEY (listing_id, image_id)) STRICT"
    )
    return rows


def _append_rows(rows: sqlite3.Connection, done: list[ImageOutcome]) -> None:
    rows.execute("BEGIN")
    rows.executemany(
        "INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(*o.job.key, o.result, o.size_bytes, o.width, o.height, o.sha256) for o in done],
    )
    rows.execute("COMMIT")


# --- the server


def make_images(folder: Path, images: int) -> None:
    """Lay `images` names over a few distinct JPEGs of some 45 kB, 570 x 600 pixels."""
    dice = np.random.default_rng(7)
    bodies = []
    for number in range(min(BODIES, images)):
        noise = Image.fromarray(dice.integers(0, 255, (60, 57, 3), dtype=np.uint8))
        picture = noise.resize((570, 600), Image.Resampling.BICUBIC)
        for quality in range(96, 30, -1):
            body = io.BytesIO()
            picture.save(body, "JPEG", quality=quality)
            if body.tell() <= BODY_BYTES:
                break
        bodies.append(folder / f"body{number}")
        bodies[-1].write_bytes(body.getvalue())
    for number in range(images):
        (folder / f"{number}.jpg").hardlink_to(bodies[number % len(bodies)])


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[tuple[str, str]]:
    """Serve a folder over loopback; yields the base url and the server's name."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if nginx:
        command = _nginx_command(nginx, folder, port)
    else:
        command = [sys.executable, __file__, "--serve", str(port), "--folder", str(folder)]
    server = subprocess.Popen(command)
    try:
        _await_port(port)
        yield f"http://127.0.0.1:{port}", "nginx" if nginx else "Python"
    finally:
        server.terminate()
        server.wait()


def _nginx_command(nginx: str, folder: Path, port: int) -> list[str]:
    own = folder.parent / "nginx"
    own.mkdir()
    # Workers may run as another user than we do.
    for each in (folder.parent, folder, own):
        each.chmod(0o755)
    paths = "".join(
        f"{kind}_temp_path {own}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (own / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {own}/pid; error_log {own}/error.log;"
        "events { worker_connections 1024; }"
        f"http {{ {paths} access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;"
        "open_file_cache max=20000; types { image/jpeg jpg; }"
        f"server {{ listen 127.0.0.1:{port}; root {folder}; }} }}"
    )
    return [nginx, "-c", str(own / "nginx.conf"), "-p", str(own), "-e", str(own / "error.log")]


class _Static(asyncio.Protocol):
    """Answers GETs with bodies from memory; as little as keeps a client busy."""

    def __init__(self, answers: dict[bytes, bytes]) -> None:
        self._answers = answers
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            request, _, self._received = self._received.partition(b"\r\n\r\n")
            self._transport.write(self._answers[request.split(b" ", 2)[1]])


def _serve_python(folder: Path, port: int) -> None:
    answers = {}
    for path in folder.glob("*.jpg"):
        body = path.read_bytes()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
        answers[f"/{path.name}".encode()] = head.encode() + body

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Static(answers), "127.0.0.1", port)
        await server.serve_forever()

    asyncio.run(run())


def _await_port(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if time.monotonic() > deadline:
            raise SystemExit("the server did not start")
        time.sleep(0.05)


# --- measuring and telling

Fetch = Callable[[str, int, int, Path], None]
CLIENTS: dict[str, Fetch] = {"bare": fetch_bare, "duty": fetch_duty, "ours": fetch_ours}


def measure(fetch: Fetch, base: str, images: int, connections: int, folder: Path) -> Round:
    """Run one client into a fresh folder, its thousand folders made and the disk at rest."""
    shutil.rmtree(folder, ignore_errors=True)
    for number in range(min(1000, images)):
        (folder / f"{number:03d}").mkdir(parents=True)
    os.sync()
    began, cpu = time.perf_counter(), time.process_time()
    fetch(base, images, connections, folder)
    spent, cpu = time.perf_counter() - began, time.process_time() - cpu
    return Round(images / spent, cpu / images * 1000)


def take_turns(
    base: str, images: int, rounds: int, connections: int, work: Path
) -> dict[str, list[Round]]:
    """Let the clients take turns; a first round warms up and does not count."""
    runs: dict[str, list[Round]] = {name: [] for name in CLIENTS}
    for turn in range(rounds + 1):
        for name, fetch in CLIENTS.items():
            result = measure(fetch, base, images, connections, work / "files")
            if turn:
                runs[name].append(result)
    return runs


def compare(base: str, images: int, rounds: int, connections: int, work: Path) -> list[str]:
    """Table lines."""
    runs = take_turns(base, images, rounds, connections, work)
    speed = {name: [run.per_second for run in done] for name, done in runs.items()}
    cpu = {name: [run.cpu_s_per_1000 for run in done] for name, done in runs.items()}
    median = statistics.median
    lines = []
    for name in CLIENTS:
        ratios = f"{median(speed[name]) / median(speed['bare']):5.0%}"
        cpus = f"{median(cpu[name]) / median(cpu['bare']):5.2f}"
        lines.append(
            f"{connections:11} {name:6} {median(speed[name]):8,.0f} {ratios:>6}"
            f" {median(cpu[name]):11.3f} {cpus:>6}"
            f"   {min(speed[name]):,.0f}-{max(speed[name]):,.0f}/s,"
            f" {min(cpu[name]):.3f}-{max(cpu[name]):.3f} s"
        )
    return lines


def run(*, quick: bool) -> list[Row]:
    """The ratios for the table of `python -m bench`."""
    images, rounds, connections = (200, 1, 16) if quick else (4000, 5, 16)
    with _serving(images, None) as (base, _, work):
        runs = take_turns(base, images, rounds, connections, work)
    speed = {name: statistics.median(one.per_second for one in runs[name]) for name in runs}
    cpu = {name: statistics.median(one.cpu_s_per_1000 for one in runs[name]) for name in runs}
    how = f"{speed['ours']:,.0f} against {speed['bare']:,.0f} a second, medians of {rounds} rounds"
    duty = f"{cpu['duty'] / cpu['bare']:.2f}: the bare loop with sha256, rename and rows"
    return [
        Row(what="images a second by a bare loop's", value=speed["ours"] / speed["bare"], unit="%",
            at_least=WANTED_SPEED, how=how),
        Row(what="CPU an image by a bare loop's", value=cpu["ours"] / cpu["bare"],
            at_most=WANTED_CPU, how=duty),
    ]  # fmt: skip


@contextlib.contextmanager
def _serving(images: int, folder: Path | None) -> Iterator[tuple[str, str, Path]]:
    """A server with so many images: its url, its name, and a folder to work in."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        work = Path(name)
        served = work / "served"
        served.mkdir()
        make_images(served, images)
        with serve(served) as (base, server):
            yield base, server, work


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", default="16,64")
    parser.add_argument("--folder", type=Path, help="where to write; default: the temporary folder")
    parser.add_argument("--serve", type=int, metavar="PORT", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        _serve_python(given.folder, given.serve)
        return
    with _serving(given.images, given.folder) as (base, server, work):
        print(f"{given.images:,} JPEGs of 45 kB from {server}, medians of {given.rounds} rounds")
        print("connections client images/s  ratio  CPU s/1,000  ratio   spread")
        for connections in map(int, given.connections.split(",")):
            lines = compare(base, given.images, given.rounds, connections, work)
            print("\n".join(lines), flush=True)
    print(f"wanted of ours: at least {WANTED_SPEED:.0%} of the speed at {WANTED_CPU} times the CPU")


if __name__ == "__main__":
    main()
