import re
from pathlib import Path

from analysis_world import make_history

PAGE = Path(__file__).parents[2] / "docs" / "analysis.md"


def test_every_example_runs_and_prints_what_the_page_says(tmp_path, monkeypatch, capsys):
    make_history(tmp_path / "etsy_data.db")
    monkeypatch.chdir(tmp_path)
    names = {}
    examples = re.findall(
        r"```python\n(.*?)```(?:\n+```text\n(.*?)```)?", PAGE.read_text("utf-8"), re.DOTALL
    )
    assert len(examples) >= 5
    for code, shown in examples:
        exec(compile(code, str(PAGE), "exec"), names)
        printed = capsys.readouterr().out
        if shown:
            assert printed.strip() == shown.strip()
