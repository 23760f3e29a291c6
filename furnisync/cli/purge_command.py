"""`furnisync purge`: take data out for good, by age, listing, shop or buyer."""

from rich.table import Table

from furnisync.cli.console import make_console
from furnisync.clock import SystemClock
from furnisync.config import HomeFiles, read_environment, read_settings
from furnisync.errors import ConfigError
from furnisync.home import require_home
from furnisync.ops.purge import By, Purge, purge_home


def run_purge(
    older_than: float | None,
    listing: int | None,
    shop: int | None,
    buyer: int | None,
    *,
    dry_run: bool,
    test: bool,
) -> None:
    """Purge and tell how many rows and files of which kind went.

    Raises:
        UserError: not exactly one choice, a sync runs, a database cannot be used.
    """
    purge = _choice(older_than, listing, shop, buyer)
    files = HomeFiles(read_environment().home, test)
    require_home(files)
    settings = read_settings(files.settings).data
    table = Table(box=None, pad_edge=False)
    table.add_column("in")
    table.add_column("what")
    table.add_column("would go" if dry_run else "gone", justify="right")
    for gone in purge_home(files, settings, SystemClock(), purge, dry_run=dry_run):
        table.add_row(gone.where, gone.what, f"{gone.number:,}")
    console = make_console()
    console.print(table)
    if not dry_run:
        stays = "" if purge.by == "age" else " No sync or import brings it back."
        console.print(f"Backups made before still hold it until they are gone too.{stays}")


def _choice(
    older_than: float | None, listing: int | None, shop: int | None, buyer: int | None
) -> Purge:
    choices: tuple[tuple[By, float | None], ...] = (
        ("age", older_than),
        ("listing", listing),
        ("shop", shop),
        ("buyer", buyer),
    )
    given = [Purge(by, value) for by, value in choices if value is not None]
    if len(given) != 1:
        raise ConfigError(
            "purge takes exactly one of --older-than DAYS, --listing ID, --shop ID, --buyer ID."
        )
    return given[0]
