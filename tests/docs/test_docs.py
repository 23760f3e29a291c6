"""The docs are true: commands, settings, and the README's promises of what exists."""

import re
from pathlib import Path

import msgspec
import pytest
import typer.main
from typer.core import TyperCommand, TyperGroup

from furnisync.cli.app import app
from furnisync.config import Settings
from tools import demo_picture, write_commands

ROOT = Path(__file__).resolve().parents[2]


def test_commands_page_is_what_the_program_says() -> None:
    assert write_commands.PAGE.read_text("utf-8") == write_commands.page(), "run: make docs"


def test_commands_page_shows_the_own_options_of_each_command() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    page = write_commands.PAGE.read_text("utf-8")
    for words in write_commands.commands(group):
        part = page.split(f"## furnisync {' '.join(words)}\n", 1)[1].split("\n## ", 1)[0]
        command: TyperCommand | TyperGroup = group
        for word in words:
            if isinstance(command, TyperGroup) and word in command.commands:
                command = command.commands[word]
        options = {flag for one in command.params for flag in one.opts if flag.startswith("--")}
        assert options <= set(re.findall(r"--[a-z\d-]+", part)), words
        assert words[-1] in part.split("usage: " if words == ("sandbox",) else "Usage: ")[1], words


def settings() -> list[tuple[str, str, object]]:
    return [
        (section.name, field.name, field.default)
        for section in msgspec.structs.fields(Settings)
        for field in msgspec.structs.fields(section.type)
    ]


@pytest.mark.parametrize(("section", "name", "default"), settings())
def test_every_setting_is_documented(section: str, name: str, default: object) -> None:
    page = (ROOT / "docs" / "settings.md").read_text("utf-8")
    part = page.split(f"## [{section}]", 1)[1].split("\n## ", 1)[0]
    row = re.search(rf"^\| `{name}` \| (.+?) \|", part, re.MULTILINE)
    assert row is not None
    shown = row[1].strip("`")
    assert shown == ("as selected" if default is None else msgspec.json.encode(default).decode())


def test_no_setting_is_documented_that_is_none() -> None:
    page = (ROOT / "docs" / "settings.md").read_text("utf-8")
    documented = set(re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE))
    assert documented == {name for _, name, _ in settings()}


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")),
    ],
)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target:
            assert ((ROOT / page).parent / target).exists(), target


def test_readme_begins_with_the_two_commands() -> None:
    head = (ROOT / "README.md").read_text("utf-8")[:1200]
    assert "make demo" in head
    assert "make test" in head
    assert f'src="{demo_picture.PICTURE.relative_to(ROOT)}"' in head
    assert demo_picture.PICTURE.read_text("utf-8").startswith("<svg")


def test_the_picture_shows_what_the_demo_wrote_without_the_tables_left_out() -> None:
    written = (
        "\x1b[?25l\x1b[1m42\x1b[0m calls\n\n\x1b[3mA few shops\x1b[0m\n5009858  US\n\n"
        "\x1b[3mA few listings\x1b[0m\n4263269982\n\nFor the real Etsy\n"
    )
    picture = demo_picture.draw(written).replace("&#160;", " ")
    assert "\x1b" not in picture
    shown = " ".join(re.findall(r">([^<>]*)</text>", picture))
    assert all(words in shown for words in ("42", " calls", "A few listings", "4263269982"))
    assert not any(words in shown for words in ("A few shops", "5009858", "For the real Etsy"))


def test_named_modules_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    for name in re.findall(r"`((?:\w+/)+\w+\.py)`", text):
        assert (ROOT / "furnisync" / name).exists() or (ROOT / name).exists(), name


def test_names_to_change_are_in_the_named_modules() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    table = page.split("## To change X, go to Y", 1)[1]
    rows = [line.split("|")[2] for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 15
    for row in rows:
        paths = [ROOT / "furnisync" / name for name in re.findall(r"`([\w/]+\.(?:py|toml))`", row)]
        code = "".join(path.read_text("utf-8") for path in paths)
        for name in re.findall(r"`(?:\w+\.)?([A-Za-z_]+)`", row):
            assert re.search(rf"\b{name}\b", code), f"{name} in {row}"
