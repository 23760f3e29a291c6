"""Draws docs/demo.svg: what `furnisync demo` prints, recorded from a real run.

./venv/bin/python -m tools.demo_picture
"""

import os
import pty
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "demo.svg"
COLUMNS = 112
LEFT_OUT = ("A few shops", "For the real Etsy")
"""The picture ends before the second and leaves out the table that begins with the first."""


def record(folder: Path) -> str:
    """Run the demo in a terminal without live progress and return what it wrote.

    Raises:
        subprocess.CalledProcessError: the demo failed.
    """
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "TTY_INTERACTIVE": "0", "TERM": "xterm"}
    environment["PYTHONPATH"] = str(PICTURE.parents[1])
    command = [sys.executable, "-m", "furnisync", "demo", "--home", "demo-data"]
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    ) as demo:
        os.close(theirs)
        written = _read_all(ours)
    if demo.returncode:
        raise subprocess.CalledProcessError(demo.returncode, command, written)
    written = written.replace(sys.executable, "./venv/bin/python")
    return written.replace(f"{folder}/", "~/furnisync/")


def _read_all(terminal: int) -> str:
    written = b""
    try:
        while chunk := os.read(terminal, 65536):
            written += chunk
    except OSError:  # Linux reports the end of a terminal as an error
        pass
    finally:
        os.close(terminal)
    return written.decode().replace("\r\n", "\n")


def draw(written: str) -> str:
    """The picture of a demo's output as SVG."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    shown = written.split(LEFT_OUT[1], maxsplit=1)[0]
    for block in re.split(r"\n[ ]*\n", shown):
        text = Text.from_ansi(block)
        if not text.plain.startswith(LEFT_OUT[0]):
            console.print(text, "", sep="\n", no_wrap=True, crop=True)
    return console.export_svg(title="make demo", unique_id="demo")


def main() -> None:
    """Run the demo and write the picture."""
    with TemporaryDirectory() as folder:
        PICTURE.write_text(draw(record(Path(folder).resolve())), "utf-8")


if __name__ == "__main__":
    main()
