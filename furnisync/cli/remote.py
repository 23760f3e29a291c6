"""`furnisync remote HOST ...`: the same program on another computer over the user's ssh."""

from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal

from furnisync.cli.console import make_console, say
from furnisync.cli.services import Follow, JobArgument, Lines
from furnisync.config import read_environment
from furnisync.extras import installed_extras
from furnisync.ops.remote.deploy import find_python, make_environment, put_code
from furnisync.ops.remote.host import RemoteHost, StepFailed, check_folder, check_host
from furnisync.ops.remote.pull import pull as pull_files

FURNISYNC = "venv/bin/python -m furnisync"

remote_app = typer.Typer(
    name="remote",
    help="Set up, update and watch furnisync on another computer over ssh.",
    no_args_is_help=True,
)

Folder = Annotated[
    str, typer.Option("--dir", metavar="FOLDER", help="The folder there with code and data.")
]
Python = Annotated[
    str | None, typer.Option("--python", metavar="PROGRAM", help="The Python to use there.")
]
DEFAULT_FOLDER = "~/furnisync"


@remote_app.callback()
def remote(
    context: typer.Context,
    host: Annotated[str, typer.Argument(metavar="HOST", help="As for ssh: imac, me@imac.local.")],
    ssh_config: Annotated[
        Path | None,
        typer.Option(envvar="FURNISYNC_SSH_CONFIG", help="Use this instead of ~/.ssh/config."),
    ] = None,
) -> None:
    """Set up, update and watch furnisync on another computer over ssh."""
    context.obj = (check_host(host), ssh_config)


def _host(context: typer.Context, folder: str) -> RemoteHost:
    name, ssh_config = context.obj
    return RemoteHost(name, check_folder(folder), ssh_config)


@remote_app.command()
def setup(
    context: typer.Context,
    which: JobArgument = "both",
    folder: Folder = DEFAULT_FOLDER,
    python: Python = None,
) -> None:
    """Install the program and its services there, and start them."""
    host = _host(context, folder)
    _install(host, python)
    say("installing the services ...")
    try:
        say(host.run("install the services", _furnisync(host, f"service install {which}")).strip())
    except StepFailed as error:
        raise StepFailed(
            f"Code and environment are installed, but the services are not. {error} Then run"
            f" `furnisync remote {host.name} start`."
        ) from None


@remote_app.command()
def update(context: typer.Context, folder: Folder = DEFAULT_FOLDER, python: Python = None) -> None:
    """Update the program there and restart running services."""
    host = _host(context, folder)
    host.run("look for furnisync", host.inside("true"))
    _install(host, python)
    script = host.inside(
        f"if {FURNISYNC} service status >/dev/null; then {FURNISYNC} service restart;"
        " else echo 'No service was restarted.'; fi"
    )
    say(host.run("restart the services", script).strip())


def _install(host: RemoteHost, python: str | None) -> None:
    say(f"looking for a Python on {host.name} ...")
    found = find_python(host, python)
    say(f"copying the code to {host.folder} ...")
    put_code(host)
    extras = [extra for extra in installed_extras() if extra != "demo"]  # setup brings that one
    beside = f", with the extras {', '.join(extras)} as here" if extras else ""
    say(f"making the environment with {found}{beside} (some minutes the first time) ...")
    make_environment(host, found, extras)


@remote_app.command()
def status(context: typer.Context, folder: Folder = DEFAULT_FOLDER) -> None:
    """Show the services and the status of the home there."""
    host = _host(context, folder)
    script = (
        f"s=0; {FURNISYNC} service status 2>&1 || s=$?;"
        f" echo; {FURNISYNC} status 2>&1 || s=$?; exit $s"
    )
    raise typer.Exit(host.show("show the status", host.inside(script)))


@remote_app.command()
def logs(
    context: typer.Context,
    which: JobArgument = "both",
    *,
    follow: Follow = False,
    lines: Lines = 50,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Show the services' logs there."""
    host = _host(context, folder)
    flags = f"-n {lines}" + (" -f" if follow else "")
    try:
        raise typer.Exit(
            host.show("show the logs", _furnisync(host, f"service logs {which} {flags} 2>&1"))
        )
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


@remote_app.command()
def start(
    context: typer.Context, which: JobArgument = "both", folder: Folder = DEFAULT_FOLDER
) -> None:
    """Start the services there; install those that are missing."""
    host = _host(context, folder)
    say(host.run("start the services", _furnisync(host, f"service install {which}")).strip())


@remote_app.command()
def stop(
    context: typer.Context, which: JobArgument = "both", folder: Folder = DEFAULT_FOLDER
) -> None:
    """Stop the services there cleanly."""
    host = _host(context, folder)
    say(host.run("stop the services", _furnisync(host, f"service stop {which}")).strip())


@remote_app.command()
def pull(
    context: typer.Context,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="The target folder; without it pulled/HOST in the home."),
    ] = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Copy both databases and the metadata from there.

    Each file has the state of one instant, also while the syncs run there.
    """
    host = _host(context, folder)
    target = to or read_environment().home / "pulled" / host.name
    say(f"copying the databases on {host.name} ...")
    pulled = pull_files(host, target.resolve(), progress=make_console().is_terminal)
    for path in pulled:
        say(f"{path}: {decimal(path.stat().st_size)}")


def _furnisync(host: RemoteHost, command: str) -> str:
    return host.inside(f"{FURNISYNC} {command}")
