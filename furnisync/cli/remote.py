"""`furnisync remote HOST ...`: the same program on another computer, over the user's own ssh."""

from pathlib import Path
from typing import Annotated

import typer

from furnisync.cli.console import make_console, say
from furnisync.cli.services import WhichJob
from furnisync.cli.words import size
from furnisync.config import read_environment
from furnisync.extras import installed_extras
from furnisync.ops.remote.deploy import find_python, make_environment, put_code
from furnisync.ops.remote.host import RemoteHost, StepFailed, check_folder, check_host
from furnisync.ops.remote.pull import pull as pull_files

FURNISYNC = "venv/bin/python -m furnisync"

remote_app = typer.Typer(
    name="remote",
    help="Set up, update and watch furnisync on another computer, over your own ssh.",
    no_args_is_help=True,
)

Folder = Annotated[
    str, typer.Option("--dir", metavar="FOLDER", help="Where it lives there, code and data.")
]
Python = Annotated[
    str | None, typer.Option("--python", metavar="PROGRAM", help="Which Python there to use.")
]
DEFAULT_FOLDER = "~/furnisync"


@remote_app.callback()
def remote(
    context: typer.Context,
    host: Annotated[str, typer.Argument(metavar="HOST", help="As for ssh: imac, me@imac.local.")],
    ssh_config: Annotated[
        Path | None,
        typer.Option(envvar="FURNISYNC_SSH_CONFIG", help="Instead of your ~/.ssh/config."),
    ] = None,
) -> None:
    """Set up, update and watch furnisync on another computer, over your own ssh."""
    context.obj = (check_host(host), ssh_config)


def _host(context: typer.Context, folder: str) -> RemoteHost:
    name, ssh_config = context.obj
    return RemoteHost(name, check_folder(folder), ssh_config)


@remote_app.command()
def setup(
    context: typer.Context,
    which: WhichJob = "both",
    folder: Folder = DEFAULT_FOLDER,
    python: Python = None,
) -> None:
    """Put the program there, make its environment, install and start the services."""
    host = _host(context, folder)
    _install(host, python)
    say("installing the services ...")
    try:
        say(host.run("install the services", _furnisync(host, f"service install {which}")).strip())
    except StepFailed as error:
        raise StepFailed(
            f"Code and environment are there, but not the services. {error} Then run"
            f" `furnisync remote {host.name} start`."
        ) from None


@remote_app.command()
def update(context: typer.Context, folder: Folder = DEFAULT_FOLDER, python: Python = None) -> None:
    """Bring the code and environment there to the state here; restart what runs as a service."""
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
    say(f"putting the code into {host.folder} ...")
    put_code(host)
    extras = [extra for extra in installed_extras() if extra != "demo"]  # setup brings that one
    beside = f", with the extras {', '.join(extras)} as here" if extras else ""
    say(f"making the environment with {found}{beside} (some minutes the first time) ...")
    make_environment(host, found, extras)


@remote_app.command()
def status(context: typer.Context, folder: Folder = DEFAULT_FOLDER) -> None:
    """Show the services and the whole picture of the home there."""
    host = _host(context, folder)
    script = (
        f"s=0; {FURNISYNC} service status 2>&1 || s=$?;"
        f" echo; {FURNISYNC} status 2>&1 || s=$?; exit $s"
    )
    raise typer.Exit(host.show("show the status", host.inside(script)))


@remote_app.command()
def logs(
    context: typer.Context,
    which: WhichJob = "both",
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="Lines of each log.")] = 50,
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
    context: typer.Context, which: WhichJob = "both", folder: Folder = DEFAULT_FOLDER
) -> None:
    """Start the services there; installs them where they are not."""
    host = _host(context, folder)
    say(host.run("start the services", _furnisync(host, f"service install {which}")).strip())


@remote_app.command()
def stop(context: typer.Context, which: WhichJob = "both", folder: Folder = DEFAULT_FOLDER) -> None:
    """End the services there cleanly."""
    host = _host(context, folder)
    say(host.run("stop the services", _furnisync(host, f"service stop {which}")).strip())


@remote_app.command()
def pull(
    context: typer.Context,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="Where to (pulled/HOST in the home if not said)."),
    ] = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Bring copies of both databases and of the metadata, each the whole state at one instant."""
    host = _host(context, folder)
    target = to or read_environment().home / "pulled" / host.name
    say(f"taking copies on {host.name} ...")
    pulled = pull_files(host, target.resolve(), progress=make_console().is_terminal)
    for path in pulled:
        say(f"{path}: {size(path.stat().st_size)}")


def _furnisync(host: RemoteHost, command: str) -> str:
    return host.inside(f"{FURNISYNC} {command}")
