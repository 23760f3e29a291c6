"""A row of the table: what was measured, what it must reach, how to read it."""

from collections.abc import Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

LEAST_WIDTH = 150


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One measured value; without a limit it only tells something about the others."""

    what: str
    value: float
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None
    how: str = ""

    @property
    def ok(self) -> bool | None:
        """Whether the promise is kept, None where nothing is promised."""
        if self.at_least is not None:
            return self.value >= self.at_least
        if self.at_most is not None:
            return self.value <= self.at_most
        return None

    @property
    def wanted(self) -> str:
        """The promise in a few letters."""
        if self.at_least is not None:
            return f">= {_shown(self.at_least, self.unit)}"
        if self.at_most is not None:
            return f"<= {_shown(self.at_most, self.unit)}"
        return ""

    @property
    def measured(self) -> str:
        """The value with its unit."""
        return _shown(self.value, self.unit)

    def as_json(self) -> dict[str, Any]:
        """For other programs."""
        return {**msgspec.to_builtins(self), "ok": self.ok}


def _shown(value: float, unit: str) -> str:
    if unit == "%":
        return f"{100 * value:.1f} %"
    digits = 0 if value == int(value) or value >= 1000 else 2 if value < 10 else 1
    return f"{value:,.{digits}f} {unit}".rstrip()


def print_rows(console: Console, benches: Sequence[tuple[str, Sequence[Row]]]) -> None:
    """Print the table, a section for each bench."""
    console.width = max(console.width, LEAST_WIDTH)
    table = Table("", "what", "wanted", "measured", "", "how to read it", pad_edge=False)
    for column in (2, 3):
        table.columns[column].justify = "right"
        table.columns[column].no_wrap = True
    for name, rows in benches:
        for row in rows:
            verdict = {True: "[green]ok[/]", False: "[bold red]NOT[/]", None: ""}[row.ok]
            label = name if row is rows[0] else ""
            table.add_row(label, row.what, row.wanted, row.measured, verdict, row.how)
        table.add_section()
    console.print(table)
