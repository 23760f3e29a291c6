"""The benches must not rot: a smoke run of all of them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import bench.sandbox
from bench.__main__ import BENCHES, main
from bench.rows import Row

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "name",
    # `rate` measures a speed: on a busy machine its work runs out before its time does.
    [
        pytest.param(one, marks=[pytest.mark.slow] if one in {"month", "rate"} else [])
        for one in BENCHES
    ],
)
def test_a_bench_runs(name, tmp_path):
    flags = ["--quick", "--only", name, "--json", str(tmp_path / "rows.json")]
    command = [sys.executable, "-m", "bench", *flags]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = json.loads((tmp_path / "rows.json").read_text("utf-8"))
    assert rows
    for row in rows:
        assert row["bench"] == name
        assert row["what"].split()[0] in ended.stdout
        assert row["ok"] in (True, False, None)
        assert row["value"] >= 0


def test_only_what_exists_can_be_chosen(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--only", "nothing"])
    assert ended.value.code == 2
    assert "nothing" in capsys.readouterr().err


def test_a_missed_promise_is_an_exit_status(monkeypatch, capsys):
    rows = [Row(what="speed", value=0.5, unit="%", at_least=0.6)]
    monkeypatch.setattr(bench.sandbox, "run", lambda *, quick: rows)
    assert main(["--only", "sandbox"]) == 1
    assert "NOT" in capsys.readouterr().out
    assert main(["--only", "sandbox", "--quick"]) == 0


@pytest.mark.parametrize(
    ("row", "ok"),
    [
        ({"value": 0.6, "at_least": 0.6}, True),
        ({"value": 0.59, "at_least": 0.6}, False),
        ({"value": 22, "at_most": 22}, True),
        ({"value": 22.1, "at_most": 22}, False),
        ({"value": 1}, None),
    ],
)
def test_a_row_knows_whether_its_promise_is_kept(row, ok):
    assert Row(what="it", **row).ok is ok
