"""`make test-dates` is never left out without a word, and never in CI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("ci", "status", "words"), [({}, 0, "skipped: "), ({"CI": "1"}, 2, "not run: ")]
)
def test_without_faketime_it_says_so_and_ci_fails(tmp_path, ci, status, words):
    env = {name: value for name, value in os.environ.items() if name != "CI"}
    ended = subprocess.run(
        [sys.executable, "-m", "tools.try_dates"],
        cwd=ROOT,
        env={**env, "PATH": str(tmp_path), **ci},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (status, "")
    assert ended.stdout.startswith(words)
    assert "apt install faketime" in ended.stdout
