"""The command `furnisync` and the two scripts that the user knows."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from furnisync import __version__
from furnisync.cli.backup_commands import backup, restore
from furnisync.cli.console import make_console
from furnisync.cli.coverage_command import show_coverage
from furnisync.cli.data_views import print_data_status
from furnisync.cli.doctor_command import run_doctor
from furnisync.cli.import_commands import import_data
from furnisync.cli.logs import start_logging
from furnisync.cli.notice_commands import notices_app
from furnisync.cli.plan_command import show_plan
from furnisync.cli.purge_command import choose, run_purge
from furnisync.cli.remote_commands import remote_app
from furnisync.cli.run_data import run_data_sync
from furnisync.cli.run_images import run_image_sync
from furnisync.cli.service_commands import service_app
from furnisync.cli.summary import print_status
from furnisync.cli.sync_run import EXIT_INCOMPLETE
from furnisync.cli.verify_command import run_verify
from furnisync.clock import SystemClock
from furnisync.config import HomeFiles, Mode, read_environment, read_settings
from furnisync.data.sync import DataRun
from furnisync.data_status import read_data_status, to_json
from furnisync.errors import ClockWrong, UserError
from furnisync.home import require_home
from furnisync.images.discovery import Scope
from furnisync.images.ids_file import read_ids
from furnisync.images.sync import ImageRun
from furnisync.status import read_status

EXIT_USAGE = 2
MAX_ID = 2**63 - 1
"""The largest that a database holds."""

app = typer.Typer(
    name="furnisync",
    help="Keeps a complete and growing local dataset of Etsy's furniture.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help, the same on a terminal and in docs/commands.md
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(service_app)
app.add_typer(notices_app)
app.add_typer(remote_app)

TestFlag = Annotated[
    bool, typer.Option("--test", help="Use test files and folders instead of production's.")
]


def images(
    ids_file: Annotated[
        Path | None,
        typer.Argument(
            metavar="ids.txt", help="Sync just the listings of this file, one id or url a line."
        ),
    ] = None,
    *,
    slow: Annotated[
        bool, typer.Option("--slow", help="About one call a second, for ever (the default).")
    ] = False,
    fast: Annotated[
        bool, typer.Option("--fast", help="As fast as the key allows; ends when all is done.")
    ] = False,
    reset_shops: Annotated[
        bool, typer.Option("--reset-shops", help="Forget which shops were done, then run.")
    ] = False,
    every_shop: Annotated[
        bool, typer.Option("--every-shop", help="Read each due shop's own list too (costs calls).")
    ] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="Stop after N listings.")
    ] = None,
    test: TestFlag = False,
) -> None:
    """Find every furniture listing and download its images."""
    if ids_file is not None and limit is not None:
        raise typer.BadParameter("--limit and an ids file exclude each other.")
    mode = _mode(slow=slow, fast=fast)
    ids = None
    if ids_file is not None:
        found = read_ids(ids_file)
        if complaint := found.complaint(ids_file):
            make_console(stderr=True).print(f"{complaint}; the rest is done.", style="yellow")
        ids = found.ids
    scope = Scope(limit=limit, ids=ids, every_shop=every_shop)
    raise typer.Exit(run_image_sync(ImageRun(mode, scope, reset_shops, test)))


def _mode(*, slow: bool, fast: bool) -> Mode:
    if slow and fast:
        raise typer.BadParameter("--slow and --fast exclude each other.")
    return "fast" if fast else "slow"


app.command("images")(images)


def data(
    *,
    slow: Annotated[
        bool, typer.Option("--slow", help="About one call a second, until no shop is due.")
    ] = False,
    fast: Annotated[
        bool, typer.Option("--fast", help="As fast as the key allows, until no shop is due.")
    ] = False,
    continuous: Annotated[
        bool, typer.Option("--continuous", help="Slow, for ever, taking up what becomes due.")
    ] = False,
    top: Annotated[
        int | None,
        typer.Option("--top", min=1, metavar="N", help="Only the N shops with most listings."),
    ] = None,
    furniture_only: Annotated[
        bool,
        typer.Option("--furniture-only", help="Only listings that image sync knows, by batch."),
    ] = False,
    test: TestFlag = False,
) -> None:
    """Collect shops, listings and reviews over time into etsy_data.db."""
    if continuous and fast:
        raise typer.BadParameter("--continuous runs in slow mode; leave out --fast.")
    run = DataRun(_mode(slow=slow, fast=fast), continuous, top, furniture_only, test)
    raise typer.Exit(run_data_sync(run))


app.command("data")(data)


@app.command()
def status(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
    test: TestFlag = False,
) -> None:
    """Show what there is, what runs, what is left, what failed and why; at any time."""
    files = HomeFiles(read_environment().home, test)
    require_home(files)
    clock = SystemClock()
    found = read_status(files, clock)
    history = None
    if files.history.exists():
        history = read_data_status(files, read_settings(files.settings).data, clock)
    if as_json:
        sys.stdout.write(to_json(found, history) + "\n")
        return
    print_status(make_console(), found, files)
    if history is not None:
        make_console().print()
        print_data_status(make_console(), history, files)


@app.command()
def plan(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what a pass would ask; no calls.")
    ] = False,
    test: TestFlag = False,
) -> None:
    """Cut and merge the crawl plan's price intervals where listings lie, and show what it costs."""
    show_plan(dry_run=dry_run, test=test)


@app.command()
def coverage(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
    test: TestFlag = False,
) -> None:
    """Show the coverage certificate: what the newest pass read whole, and what not and why."""
    files = HomeFiles(read_environment().home, test)
    require_home(files)
    raise typer.Exit(show_coverage(files, as_json=as_json))


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def sandbox(context: typer.Context) -> None:
    """Start an Etsy of our own, for trying things out and for tests (`--help` for its options)."""
    from furnisync.sandbox.__main__ import main as run_sandbox  # noqa: PLC0415 -- costs a second

    run_sandbox(context.args)


@app.command()
def demo(
    listings: Annotated[int, typer.Option(min=1, help="Furniture listings in the sandbox.")] = 2000,
    home: Annotated[Path, typer.Option(help="Where the demo's data go.")] = Path("demo-data"),
) -> None:
    """Run image sync against the sandbox, from nothing to every image."""
    from furnisync.cli.demo import run_demo  # noqa: PLC0415 -- brings the sandbox along

    raise typer.Exit(run_demo(listings, home))


app.command("import")(import_data)
app.command()(backup)
app.command()(restore)


@app.command()
def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
    repair_clock: Annotated[
        bool,
        typer.Option("--repair-clock", help="First mark and repair what a wrong clock wrote."),
    ] = False,
    test: TestFlag = False,
) -> None:
    """Look at key, quota, clock, disk, permissions, versions, locks, databases; say what to do."""
    raise typer.Exit(run_doctor(as_json=as_json, test=test, repair_clock=repair_clock))


@app.command()
def verify(
    *,
    sha256: Annotated[
        bool, typer.Option("--sha256", help="Read every file and compare its sha256.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Fetch anew what is missing, truncated or changed.")
    ] = False,
    accept_folder: Annotated[
        bool,
        typer.Option(
            "--accept-folder",
            help="With --repair: the image folder is lost for good, take it as it is now.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
    test: TestFlag = False,
) -> None:
    """Hold image files, catalogue and history against each other; while a sync runs too."""
    status = run_verify(
        sha256=sha256, repair=repair, accept_folder=accept_folder, as_json=as_json, test=test
    )
    raise typer.Exit(status)


@app.command()
def purge(
    *,
    older_than: Annotated[
        float | None,
        typer.Option("--older-than", metavar="DAYS", help="What is older than DAYS (above 0)."),
    ] = None,
    listing: Annotated[
        int | None,
        typer.Option("--listing", min=1, max=MAX_ID, metavar="ID", help="All of a listing."),
    ] = None,
    shop: Annotated[
        int | None, typer.Option("--shop", min=1, max=MAX_ID, metavar="ID", help="All of a shop.")
    ] = None,
    buyer: Annotated[
        int | None,
        typer.Option("--buyer", min=1, max=MAX_ID, metavar="ID", help="All reviews of a buyer."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would go.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask; needed where there is no terminal.")
    ] = False,
    test: TestFlag = False,
) -> None:
    """Take data out of history, catalogue and image folder for good; no sync brings it back.

    On a terminal it shows what would go and asks first.
    """
    purge_choice = choose(older_than, listing, shop, buyer)
    run_purge(purge_choice, dry_run=dry_run, yes=yes, test=test)


@app.command()
def version() -> None:
    """Print the version."""
    sys.stdout.write(f"furnisync {__version__}\n")


def run(application: typer.Typer, name: str) -> None:
    """Run a command line; what the user can repair ends in one sentence and exit status 2."""
    console = make_console()
    start_logging(console)
    try:
        application(prog_name=name)
    except UserError as error:
        make_console(stderr=True).print(f"{name}: {error}", style="bold red", soft_wrap=True)
        sys.exit(EXIT_USAGE)
    except ClockWrong as error:
        make_console(stderr=True).print(f"{name}: {error}", style="bold red", soft_wrap=True)
        sys.exit(EXIT_INCOMPLETE)


def main() -> None:
    """`furnisync`."""
    run(app, "furnisync")


def images_script() -> None:
    """`sync_images.py`."""
    _run_script(images, "sync_images.py")


def data_script() -> None:
    """`sync_data.py`."""
    _run_script(data, "sync_data.py")


def _run_script(command: Callable[..., None], name: str) -> None:
    script = typer.Typer(
        rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False
    )
    script.command()(command)
    run(script, name)
