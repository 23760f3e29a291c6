"""`furnisync demo`: the whole job against the sandbox, in the same processes as in real use."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from furnisync.cli.words import duration
from furnisync.sandbox.process import SandboxProcess


def run_demo(listings: int, home: Path) -> int:
    """Sync a generated world into a fresh home.

    Returns:
        the exit status of the sync.
    """
    console = Console()
    began = time.monotonic()
    home = home.resolve()
    if home.exists():
        shutil.rmtree(home)
    home.mkdir(parents=True)
    console.rule("furnisync demo")
    console.print(f"Starting an Etsy of our own with {listings:,} furniture listings ...")
    with SandboxProcess(listings=listings, shops=max(20, listings // 20)) as sandbox:
        console.print(f"It listens at {sandbox.api_url}, its image CDN at {sandbox.cdn_host}.")
        console.print("Now: sync_images.py --fast\n")
        environment = {**os.environ, **sandbox.env, "FURNISYNC_HOME": str(home)}
        command = [sys.executable, "-m", "furnisync", "images", "--fast"]
        status = subprocess.run(command, env=environment, check=False).returncode  # noqa: S603
        asked = sandbox.asked()
    calls = sum(sum(by_status.values()) for by_status in asked["calls"].values())
    console.print()
    console.print(
        f"{calls:,} calls for {listings:,} listings, {calls * 1000 / listings:.1f} per 1,000;"
        f" {duration(time.monotonic() - began)} in all."
    )
    console.print(f"Everything lies in {home}: images/, image_metadata.json, catalog.db.")
    console.print(
        "For the real Etsy put ETSY_API_KEY and ETSY_SHARED_SECRET into .env and run:\n"
        "  ./venv/bin/python -u sync_images.py --fast"
    )
    return status
