"""How fast the sandbox answers, alone: were it slow, it would hide our own speed.

By CPU: how many pages and images one core serves in a second, whatever else runs on the machine.
"""

import time
from collections.abc import Iterator

import pycurl

from bench.homes import cpu_s
from bench.rows import Row
from furnisync.sandbox.process import SandboxProcess

CONNECTIONS = 16
LISTINGS = 6000
WARM_S = 15.0
"""The sandbox writes its listings and draws its pictures in idle moments after its start."""


def run(*, quick: bool) -> list[Row]:
    """Ask for pages of 100 listings and for images of 45 kB, as fast as they come."""
    listings = 500 if quick else LISTINGS
    number = 60 if quick else 3000
    with SandboxProcess(listings=listings, qps=10**9, qpd=10**9) as sandbox:
        time.sleep(1.0 if quick else WARM_S)
        header = f"x-api-key: {sandbox.key}:{sandbox.secret}"
        page = f"{sandbox.api_url}/listings/active?taxonomy_id=967&limit=100&offset="
        pages = (f"{page}{100 * (n % (listings // 100))}" for n in range(number))
        found = [_measure(sandbox, pages, number, header)]
        images = [row["urls"]["570xN"] for row in sandbox.truth_images(digests=False)]
        urls = (images[n % len(images)] for n in range(3 * number))
        found.append(_measure(sandbox, urls, 3 * number, ""))
    rows = []
    for what, wanted, (by_cpu, by_clock) in zip(
        ("pages of 100 listings", "images of 45 kB"), (300, 1000), found, strict=True
    ):
        how = f"{by_clock:,.0f} a second by the clock, beside the client"
        rows.append(Row(what=f"{what} in a second of one core", value=by_cpu, at_least=wanted,
                        how=how))  # fmt: skip
    return rows


def _measure(
    sandbox: SandboxProcess, urls: Iterator[str], number: int, header: str
) -> tuple[float, float]:
    """Answers for each CPU second of the sandbox, and for each second."""
    began, cpu = time.perf_counter(), cpu_s(sandbox.pid)
    _fetch(urls, header)
    spent, cpu = time.perf_counter() - began, cpu_s(sandbox.pid) - cpu
    return number / max(cpu, 0.01), number / spent


def _fetch(urls: Iterator[str], header: str) -> None:
    """Fetch all of them over a few connections and throw the bodies away."""
    multi = pycurl.CurlMulti()
    idle = [_handle(header) for _ in range(CONNECTIONS)]
    handles, waiting = list(idle), True
    while waiting or len(idle) < CONNECTIONS:
        while idle and (url := next(urls, None)) is not None:
            curl = idle.pop()
            curl.setopt(pycurl.URL, url)
            multi.add_handle(curl)
        waiting = not idle
        multi.select(0.1)
        multi.perform()
        _, good, wrong = multi.info_read(CONNECTIONS)
        assert not wrong, wrong
        for curl in good:
            assert curl.getinfo(pycurl.RESPONSE_CODE) == 200
            multi.remove_handle(curl)
            idle.append(curl)
    for curl in handles:
        curl.close()
    multi.close()


def _handle(header: str) -> pycurl.Curl:
    curl = pycurl.Curl()
    curl.setopt(pycurl.WRITEFUNCTION, len)
    curl.setopt(pycurl.NOSIGNAL, 1)
    curl.setopt(pycurl.NOPROXY, "*")
    if header:
        curl.setopt(pycurl.HTTPHEADER, [header])
    return curl
