"""`furnisync notices`: test the addresses, check once."""

import sys

import typer

from furnisync.cli.console import EXIT_INCOMPLETE, TestFlag, make_console
from furnisync.clock import SystemClock
from furnisync.config import HomeFiles, Settings, read_environment, read_settings
from furnisync.errors import ConfigError, UserError
from furnisync.extras import require_extra
from furnisync.home import require_home
from furnisync.http.network import export_network
from furnisync.ops.notify.notifier import HEADS, Delivery, Notifier, deliver, title_of

notices_app = typer.Typer(
    name="notices",
    help="Send notices of what is wrong by mail, phone or chat ([notices] in furnisync.toml).",
    no_args_is_help=True,
)


@notices_app.command("test")
def send_test() -> None:
    """Send a test notice to each address and say which arrived."""
    files, settings = _home(test=False)
    urls = settings.notices.urls
    if not urls:
        raise ConfigError(
            f"There is no address for notices: set `urls` under [notices] in {files.settings}, as"
            " github.com/caronc/apprise/wiki shows for each service."
        )
    require_extra("notices")
    done = deliver(urls, title_of("a test"), "If you can read this, notices reach you.", calm=True)
    _print(done)
    if not all(one.delivered for one in done):
        raise typer.Exit(EXIT_INCOMPLETE)


@notices_app.command()
def check(*, test: TestFlag = False) -> None:
    """Check once for what notices report; for cron, every 10 minutes."""
    files, settings = _home(test=test)
    if settings.notices.urls:
        require_extra("notices")
    try:
        found = Notifier(files, settings, SystemClock()).look()
    except OSError as error:
        raise UserError(
            f"{files.notices} cannot be written ({error.strerror}): it records what was sent:"
            " correct its permissions, free some disk, or mount the home for writing."
        ) from error
    console = make_console()
    for one, done in found:
        console.print(f"{HEADS[one.kind]}: {one.message}")
        _print(done)
    if not found:
        sys.stdout.write("Nothing is wrong.\n")
    if any(not one.delivered for _, done in found for one in done):
        raise typer.Exit(EXIT_INCOMPLETE)


def _home(*, test: bool) -> tuple[HomeFiles, Settings]:
    environment = read_environment()
    export_network(environment.network)
    files = HomeFiles(environment.home, test)
    require_home(files)
    return files, read_settings(files.settings)


def _print(done: list[Delivery]) -> None:
    console = make_console()
    for one in done:
        text = "delivered" if one.delivered else f"NOT delivered: {one.why}"
        console.print(f"  {one.where}: {text}")
