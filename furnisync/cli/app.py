"""The command `furnisync` and the two scripts that the user knows.

A command's module is imported when the command is used: `--help` shows this table, and
`furnisync status` does not import what only a sync or an import needs.
"""

import sys
from collections import UserDict
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from furnisync import __version__
from furnisync.cli.console import EXIT_INCOMPLETE, EXIT_USAGE, make_console, start_logging
from furnisync.cli.streams import shield_streams
from furnisync.errors import GaveUp, UserError


class _Command(NamedTuple):
    """A command's place, `module:name` in this package, and its line of `furnisync --help`."""

    place: str
    summary: str


COMMANDS: Final = {
    "images": _Command(
        "sync:images",
        "Find every furniture listing and download its images.",
    ),
    "data": _Command(
        "sync:data",
        "Collect shops, listings and reviews over time into etsy_data.db.",
    ),
    "status": _Command(
        "status:status",
        "Show what is collected, what runs, what is left, what failed and why.",
    ),
    "plan": _Command(
        "crawl:plan",
        "Fit the crawl plan's price intervals to the listings that Etsy counts; show its cost.",
    ),
    "coverage": _Command(
        "crawl:coverage",
        "Show the coverage certificate: what the newest pass read completely, what not and why.",
    ),
    "sandbox": _Command(
        "demo:sandbox_app",
        "Start a local fake Etsy, for trials and tests (`--help` shows its options).",
    ),
    "demo": _Command(
        "demo:demo",
        "Run both syncs against the sandbox in a fresh home.",
    ),
    "import": _Command(
        "importing:import_data",
        "Import an older tool's images, metadata and history, without any API call.",
    ),
    "backup": _Command(
        "backup:backup",
        "Back up both databases while the syncs run.",
    ),
    "restore": _Command(
        "backup:restore",
        "Replace the home's databases by a backup; the replaced files are kept beside it.",
    ),
    "doctor": _Command(
        "checks:doctor",
        "Check key, quota, clock, disk, permissions, versions, locks, databases; say what to do.",
    ),
    "verify": _Command(
        "checks:verify",
        "Compare image files, catalog and history; a sync may run at the same time.",
    ),
    "purge": _Command(
        "purge:purge",
        "Delete data from history, catalog and image folder for good; no sync brings it back.",
    ),
    "version": _Command("app:version", "Print the version."),
    "service": _Command(
        "services:service_app",
        "Run the syncs as services: they start at boot, restart after a crash, and log.",
    ),
    "notices": _Command(
        "notify:notices_app",
        "Send notices of what is wrong by mail, phone or chat ([notices] in furnisync.toml).",
    ),
    "remote": _Command(
        "remote:remote_app",
        "Set up, update and watch furnisync on another computer over ssh.",
    ),
}


class _Commands(UserDict[str, Any]):
    """The commands by name; getting one imports its module."""

    def __getitem__(self, name: str) -> TyperCommand | TyperGroup:
        module, _, attribute = self.data[name].place.partition(":")
        found = getattr(import_module(f"furnisync.cli.{module}"), attribute)
        parent = typer.Typer(rich_markup_mode=None)  # plain help, as below
        if isinstance(found, typer.Typer):
            parent.add_typer(found)
        else:
            parent.command(name)(found)
        command = typer.main.get_group(parent).commands[name]
        assert isinstance(command, TyperCommand | TyperGroup)
        return command


class LazyGroup(TyperGroup):
    """A group of the commands above. Typer keeps the types of its contexts private: Any."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = _Commands(COMMANDS)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 -- Typer's signature
        """Names in the order of the table."""
        return list(COMMANDS)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 -- the same
        """Write the table; imports none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.summary) for name, one in COMMANDS.items()])


app = typer.Typer(
    name="furnisync",
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help, the same on a terminal and in docs/commands.md
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def furnisync() -> None:
    """Keep a complete and growing local dataset of Etsy's furniture."""


def version() -> None:
    """Print the version."""
    sys.stdout.write(f"furnisync {__version__}\n")


def run(application: typer.Typer, name: str) -> None:
    """Run a command line; an error of use ends in one sentence and exit status 2."""
    shield_streams()
    start_logging(make_console())
    try:
        application(prog_name=name)
    except UserError as error:
        make_console(stderr=True).print(f"{name}: {error}", style="bold red", soft_wrap=True)
        sys.exit(EXIT_USAGE)
    except GaveUp as error:
        make_console(stderr=True).print(f"{name}: {error}", style="bold red", soft_wrap=True)
        sys.exit(EXIT_INCOMPLETE)


def main() -> None:
    """`furnisync`."""
    run(app, "furnisync")


def images_script() -> None:
    """`sync_images.py`."""
    from furnisync.cli.sync import images  # noqa: PLC0415 -- see above

    _run_script(images, "sync_images.py")


def data_script() -> None:
    """`sync_data.py`."""
    from furnisync.cli.sync import data  # noqa: PLC0415 -- see above

    _run_script(data, "sync_data.py")


def _run_script(command: Callable[..., None], name: str) -> None:
    script = typer.Typer(
        rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False
    )
    script.command()(command)
    run(script, name)
