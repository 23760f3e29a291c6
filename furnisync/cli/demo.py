"""`furnisync sandbox`; `furnisync demo`: both syncs against the sandbox, in processes as in use."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import furnisync
from furnisync.cli.console import make_console
from furnisync.cli.status import print_collected
from furnisync.config import HomeFiles
from furnisync.errors import ConfigError, NoRoom, is_disk_full
from furnisync.extras import require_extra
from furnisync.lockfile import single_instance
from furnisync.sandbox.process import SandboxProcess
from furnisync.status.eta import duration

DEMO_MARK = ".furnisync-demo"
"""A file in each home that a demo made, locked while the demo runs; only such a home is emptied."""

sandbox_app = typer.Typer()


@sandbox_app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def sandbox(context: typer.Context) -> None:
    """Start a local fake Etsy, for trials and tests (`--help` shows its options)."""
    require_extra("demo")
    from furnisync.sandbox.__main__ import main as run_sandbox  # noqa: PLC0415 -- needs the extra

    run_sandbox(context.args)


def demo(
    listings: Annotated[int, typer.Option(min=1, help="Furniture listings in the sandbox.")] = 2000,
    home: Annotated[
        Path, typer.Option(help="A new folder for the data, or that of an earlier demo.")
    ] = Path("demo-data"),
) -> None:
    """Run both syncs against the sandbox in a fresh home."""
    require_extra("demo")
    home = home.resolve()
    make_demo_home(home)
    with single_instance(home / DEMO_MARK, "a demo"):
        empty_demo_home(HomeFiles(home))
        raise typer.Exit(_run_demo(make_console(), listings, home))


def make_demo_home(home: Path) -> None:
    """Make the folder and its mark, where no earlier demo has.

    Raises:
        ConfigError: it holds something that no demo made, or cannot be written.
        NoRoom: its disk is full.
    """
    mark = home / DEMO_MARK
    try:
        home.mkdir(parents=True, exist_ok=True)
        if any(home.iterdir()) and not mark.is_file():
            raise ConfigError(
                f"{home} is not empty and no demo made it: name a new folder with --home, or"
                " move this one away."
            )
        mark.touch()
    except OSError as error:
        raise (NoRoom if is_disk_full(error) else ConfigError)(
            f"{home} cannot be used for a demo ({error.strerror}): name a new folder with --home."
        ) from error


def empty_demo_home(files: HomeFiles) -> None:
    """Remove what an earlier demo left, but not the mark: a kill leaves a demo's folder.

    Raises:
        AlreadyRunning: a sync runs there.
        ConfigError: something cannot be removed.
    """
    try:
        with (
            single_instance(files.lock("images"), "image sync"),
            single_instance(files.lock("data"), "data sync"),
        ):
            for path in files.home.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path.name != DEMO_MARK:
                    path.unlink()
    except OSError as error:
        raise ConfigError(
            f"The earlier demo in {files.home} cannot be removed ({error}): name a new folder with"
            " --home."
        ) from error


def _run_demo(console: Console, listings: int, home: Path) -> int:
    """Sync a generated world into a home; returns the exit status of the syncs."""
    began = time.monotonic()
    console.rule("furnisync demo")
    console.print(f"Starting a local fake Etsy with {listings:,} furniture listings ...")
    with SandboxProcess(listings=listings, shops=max(20, listings // 20), start_at=0) as sandbox:
        console.print(f"It listens at {sandbox.api_url}, its image CDN at {sandbox.cdn_host}.")
        console.print("Now: sync_images.py --fast\n")
        environment = {**os.environ, **sandbox.env, "FURNISYNC_HOME": str(home)}
        status = _run_sync("images", environment)
        calls = sandbox.asked()["total"]
        console.print(
            f"\n{calls:,} calls for {listings:,} listings with all images:"
            f" {calls * 1000 / listings:.1f} for 1,000."
        )
        console.print("\nNow: sync_data.py --fast\n")
        status = _run_sync("data", environment) or status
    console.print()
    print_collected(console, HomeFiles(home))
    console.print(
        f"{duration(time.monotonic() - began)} in all. The data is in {home}:\n"
        "  images/ and image_metadata.json, catalog.db; etsy_data.db with the history.\n"
        "Look at it with any command, for example\n"
        f"  {demo_command(home, 'status')}\n"
        "For the real Etsy put ETSY_API_KEY and ETSY_SHARED_SECRET into .env and run\n"
        f"  {real_command('images')}\n"
        f"  {real_command('data')}",
        soft_wrap=True,
        highlight=False,
    )
    return status


def demo_command(home: Path, command: str) -> str:
    """The command line that runs a command on the data of the demo."""
    return f"FURNISYNC_HOME={shlex.quote(str(home))} {_shown_python()} -m furnisync {command}"


def real_command(job: str) -> str:
    """The command line that runs a sync from here, from a checkout as well as when installed."""
    if Path.cwd() != Path(furnisync.__file__).resolve().parents[1]:
        return f"{shlex.quote(sys.executable)} -m furnisync {job} --fast"
    return f"{_shown_python()} -u sync_{job}.py --fast"


def _shown_python() -> str:
    """This Python as a person here would write it."""
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        return f"./{shlex.quote(str(python.relative_to(Path.cwd())))}"
    return shlex.quote(sys.executable)


def _run_sync(job: str, environment: dict[str, str]) -> int:
    command = [sys.executable, "-m", "furnisync", job, "--fast"]
    return subprocess.run(command, env=environment, check=False).returncode  # noqa: S603 -- no shell
