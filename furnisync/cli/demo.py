"""`furnisync demo`: the whole job against the sandbox, in the same processes as in real use."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from furnisync.cli.console import make_console
from furnisync.cli.data_views import print_collected
from furnisync.cli.words import duration
from furnisync.config import HomeFiles
from furnisync.sandbox.process import SandboxProcess


def run_demo(listings: int, home: Path) -> int:
    """Sync a generated world into a fresh home.

    Returns:
        the exit status of the sync.
    """
    console = make_console()
    began = time.monotonic()
    home = home.resolve()
    if home.exists():
        shutil.rmtree(home)
    home.mkdir(parents=True)
    console.rule("furnisync demo")
    console.print(f"Starting an Etsy of our own with {listings:,} furniture listings ...")
    with SandboxProcess(listings=listings, shops=max(20, listings // 20), start_at=0) as sandbox:
        console.print(f"It listens at {sandbox.api_url}, its image CDN at {sandbox.cdn_host}.")
        console.print("Now: sync_images.py --fast\n")
        environment = {**os.environ, **sandbox.env, "FURNISYNC_HOME": str(home)}
        status = _run("images", environment)
        calls = sandbox.asked()["total"]
        console.print(
            f"\n{calls:,} calls for {listings:,} listings with all images:"
            f" {calls * 1000 / listings:.1f} for 1,000."
        )
        console.print("\nNow: sync_data.py --fast\n")
        status = _run("data", environment) or status
    console.print()
    print_collected(console, HomeFiles(home))
    console.print(f"\n{duration(time.monotonic() - began)} in all. Everything lies in {home}:")
    console.print("  images/ and image_metadata.json, catalog.db; etsy_data.db with the history.")
    console.print(
        "For the real Etsy put ETSY_API_KEY and ETSY_SHARED_SECRET into .env and run\n"
        "  ./venv/bin/python -u sync_images.py --fast\n"
        "  ./venv/bin/python -u sync_data.py --fast"
    )
    return status


def _run(job: str, environment: dict[str, str]) -> int:
    command = [sys.executable, "-m", "furnisync", job, "--fast"]
    return subprocess.run(command, env=environment, check=False).returncode  # noqa: S603
