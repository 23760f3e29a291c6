"""The operations page is compared with the code: notices, statuses, sections, sizes, commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import get_args

import msgspec
import pytest
import typer.main
from typer.core import TyperGroup

from furnisync.cli.app import app
from furnisync.config import SIZES, Settings
from furnisync.ops.notify import alerts
from furnisync.ops.notify.alerts import AlertKind
from furnisync.ops.notify.notifier import HEADS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")
IMAGES, BLOCK_KB = 700_000, 2
"""Of 100,000 listings; and what the last block of a file wastes."""


def rows(heading: str) -> list[list[str]]:
    """The cells of all tables of a part of the page, without their heads."""
    part = re.split(rf"^##+ {heading}.*$", PAGE, maxsplit=1, flags=re.MULTILINE)[1]
    part = re.split(r"^## ", part, maxsplit=1, flags=re.MULTILINE)[0]
    lines = part.splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line, following in zip(lines, [*lines[1:], ""], strict=True)
        if line.startswith("|") and not line.startswith("| ---")
        and not following.startswith("| ---")
    ]  # fmt: skip


def test_every_notice_is_explained_with_what_to_do():
    told = {cells[0]: cells for cells in rows("Notices")}
    assert set(HEADS) == set(get_args(AlertKind)), "each kind has a head"
    assert set(told) == set(HEADS.values()), "each head has a row on the page, and no other has"
    assert all(len(cells) == 3 and all(cells) for cells in told.values())


def test_the_table_of_conditions_names_every_kind():
    named = re.findall(r"^\| ([a-z]+-[a-z]+) ", alerts.__doc__ or "", re.MULTILINE)
    assert set(named) == set(get_args(AlertKind))


def test_every_exit_status_is_explained():
    statuses = {
        int(number)
        for path in (ROOT / "furnisync").rglob("*.py")
        for number in re.findall(r"^EXIT_\w+ = (\d+)$", path.read_text("utf-8"), re.MULTILINE)
    }
    assert {int(cells[0]) for cells in rows("Exit statuses")} == statuses | {0}


def test_every_section_of_the_settings_is_named():
    named = {cells[0].strip("`[]") for cells in rows("Settings you may want to change")}
    assert named == {section.name for section in msgspec.structs.fields(Settings)}


def test_every_setting_that_the_page_names_exists():
    fields = {
        field.name
        for section in msgspec.structs.fields(Settings)
        for field in msgspec.structs.fields(section.type)
    }
    named = set(re.findall(r"`([a-z]+_[a-z_]+)`", PAGE)) | {"size", "which", "urls"}
    assert named <= fields, named - fields


def test_the_disk_of_each_image_size_is_calculated_right():
    table = {cells[0]: cells[1:] for cells in rows("Disk") if cells[0] in SIZES}
    assert list(table) == list(SIZES)
    for size, (kb, gb) in table.items():
        assert round((int(kb) + BLOCK_KB) * IMAGES / 1e6) == int(gb), size


# -- commands --------------------------------------------------------------------------------------


def command_lines() -> list[tuple[str, str]]:
    """Every line of every page that calls `furnisync`, from its name on."""
    found = set()
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = path.read_text("utf-8")
        blocks = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
        lines = [line for kind, block in blocks if kind != "text" for line in block.splitlines()]
        lines += re.findall(r"`((?:\S*/|\w.* )?furnisync [^`\n]+)`", text)
        for line in lines:
            calls = re.findall(r"(?:^|[\s/'])furnisync ((?:[a-z]|-)[^&|>#']*)", line)
            found |= {(path.name, call.strip()) for call in calls}
    return sorted(found)


def test_the_pages_show_most_commands():
    shown = {line for _, line in command_lines()}
    for line in ("notices check", "restore moving", "purge --older-than 365", "verify --sha256"):
        assert line in shown


@pytest.mark.parametrize(("page", "line"), command_lines())
def test_every_command_line_on_a_page_is_one(page, line):
    """Known commands with known options; names of hosts, files and jobs are free."""
    words = shlex.split(line)
    command = typer.main.get_command(app)
    while isinstance(command, TyperGroup) and words:
        name, *words = words
        if name not in command.commands and command.name == "remote":
            name, *words = words  # after the host
        assert name in command.commands, f"{page}: {line}"
        command = command.commands[name]
    options = {flag for one in command.params for flag in one.opts}
    given = {word.split("=")[0] for word in words if word.startswith("-")}
    if command.name != "sandbox":  # it has a parser of its own
        assert given <= options, f"{page}: {line}"


# -- links -----------------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """As the usual viewers make them of headings."""
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize(
    "page",
    ["README.md", "SECURITY.md", *(f"docs/{one.name}" for one in (ROOT / "docs").glob("*.md"))],
)
def test_links_lead_to_a_heading(page):
    text = (ROOT / page).read_text("utf-8")
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", text):
        if "://" not in target:
            there = (ROOT / page).parent / target if target else ROOT / page
            assert anchor in anchors(there.read_text("utf-8")), f"{target}#{anchor}"
