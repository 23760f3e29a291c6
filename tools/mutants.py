"""Change the pure rules a little, one place at a time, and count the changes that a test notices.

    make mutants                         # a sample of 100 mutants
    make mutants MUTANTS="--sample 20"   # fewer
    make mutants MUTANTS="--seed 1"      # others

cosmic-ray makes the mutants and runs the unit tests of their module on each, in a copy of the
project. Every survivor is printed: a test is missing, or the change means the same. The exit
status is 1 where fewer than 90 of 100 are noticed.
"""

import argparse
import json
import random
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections import defaultdict
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RULES = {
    "crawl/paging": (
        "tests/rules/test_rules_paging.py tests/rules/test_rules_walk.py"
        " tests/rules/test_rules_list_ends.py"
    ),
    "crawl/price_split": "tests/rules/test_rules_cuts.py",
    "history/review_paging": "tests/history/test_history_review_paging.py",
    "history/schedule": "tests/history/test_history_due.py",
    "quota/rules": "tests/quota/test_quota_rules.py tests/quota/test_quota_pacing.py",
}
"""Modules of pure rules, and their tests."""
EXCLUDED = [
    "core/.*BitOr.*",  # `int | None` in annotations
    "core/ReplaceComparisonOperator_(?!Is).*_Is(Not)?$",  # the identity of numbers means nothing
    "core/ReplaceComparisonOperator_Is(Not)?_(?!Is).*",
    "core/RemoveDecorator",
]
CPU_MOST_S = 90
"""A mutant that never ends counts as noticed. Processor time does not depend on the load."""
WANTED = 0.9


def main() -> int:
    """Run a sample of mutants; returns the exit status."""
    parser = argparse.ArgumentParser(description="Count the changes of the rules that tests miss.")
    parser.add_argument("--cosmic-ray", type=_absolute, required=True, help="the program")
    parser.add_argument("--sample", type=int, default=100, help="how many mutants")
    parser.add_argument("--seed", type=int, default=0, help="which mutants")
    parser.add_argument("--rules", choices=RULES, action="append", help="only this module")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = _copy_project(Path(folder))
        sessions = [_init(asked.cosmic_ray, copy, rules) for rules in asked.rules or RULES]
        total = _keep_sample(sessions, asked.sample, random.Random(asked.seed))
        survivors = []
        for session in sessions:
            _run(asked.cosmic_ray, "exec", session.with_suffix(".toml"), session, cwd=copy)
            survivors += _survivors(session)
    for survivor in survivors:
        print(survivor)
    killed = total - len(survivors)
    print(f"{killed} of {total} mutants were noticed")
    return 0 if killed >= WANTED * total else 1


def _absolute(path: str) -> Path:
    return Path(path).absolute()


def _copy_project(folder: Path) -> Path:
    for name in ("furnisync", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def _init(cosmic_ray: Path, copy: Path, rules: str) -> Path:
    """Find the mutants of a module; returns the session with those worth a run."""
    session = copy / f"{rules.replace('/', '-')}.sqlite"
    config = session.with_suffix(".toml")
    python = shlex.quote(sys.executable)
    test = (
        f"ulimit -t {CPU_MOST_S}; PYTHONDONTWRITEBYTECODE=1 exec {python} -m pytest -qx"
        f" -p no:cacheprovider --hypothesis-seed=0 -m 'unit and not slow' {RULES[rules]}"
    )
    config.write_text(
        "[cosmic-ray]\n"
        f'module-path = "furnisync/{rules}.py"\n'
        "timeout = 3600.0\n"
        f"test-command = {json.dumps(f'sh -c {shlex.quote(test)}')}\n"
        "[cosmic-ray.distributor]\n"
        'name = "local"\n'
        "[cosmic-ray.filters.operators-filter]\n"
        f"exclude-operators = {json.dumps(EXCLUDED)}\n"
    )
    _run(cosmic_ray, "init", config, session, cwd=copy)
    _run(cosmic_ray.with_name("cr-filter-operators"), session, config, cwd=copy)
    # The unchanged rules must pass, or every mutant would count as noticed.
    _run("sh", "-c", test, cwd=copy)
    return session


def _keep_sample(sessions: list[Path], most: int, chance: random.Random) -> int:
    """Drop all mutants of the sessions but a sample; returns its size."""
    found = []
    for session in sessions:
        with closing(sqlite3.connect(session)) as connection:
            found += [
                (session, job)
                for (job,) in connection.execute(
                    "SELECT job_id FROM mutation_specs"
                    " WHERE job_id NOT IN (SELECT job_id FROM work_results)"
                    " ORDER BY operator_name, operator_args, occurrence"
                )
            ]
    sample = chance.sample(found, min(most, len(found)))
    kept = defaultdict(list)
    for session, job in sample:
        kept[session].append(job)
    for session in sessions:
        with closing(sqlite3.connect(session)) as connection, connection:
            for table in ("work_results", "mutation_specs", "work_items"):
                connection.execute(
                    f"DELETE FROM {table} WHERE job_id NOT IN (SELECT value FROM json_each(?))",
                    (json.dumps(kept[session]),),
                )
    return len(sample)


def _survivors(session: Path) -> list[str]:
    """What was changed where no test failed: the place and the difference."""
    with closing(sqlite3.connect(session)) as connection:
        return [
            f"{path}:{line} {operator}\n{diff}\n"
            for path, line, operator, diff in connection.execute(
                "SELECT module_path, start_pos_row, operator_name, diff FROM mutation_specs"
                " LEFT JOIN work_results USING (job_id)"
                " WHERE test_outcome IS NOT 'KILLED' ORDER BY start_pos_row"
            )
        ]


def _run(*command: str | Path, cwd: Path) -> None:
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
