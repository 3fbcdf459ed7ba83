"""Hydra's launchers on the backtest: the real ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
WORDS = [
    "start=2024-03-04",
    "data.start=2024-01-02",
    "data.end=2024-03-08",
    "forecaster=oracle",
    "symbols=[SYA,SYB]",
]


def swept(launcher: str, folder: Path) -> list[dict[str, object]]:
    command = [
        sys.executable,
        "-m",
        "marketsimulator.backtest",
        "-m",
        f"hydra/launcher={launcher}",
        "sizing.fraction=0.02,0.5",
    ]
    words = [f"hydra.sweep.dir={folder / 'out'}", f"trials={folder / 'trials.sqlite'}"]
    done = subprocess.run([*command, *WORDS, *words], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / "out" / job / "summary.json").read_text()) for job in ("0", "1")]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib", "ray"])
def test_a_sweep_writes_a_run_a_folder_and_counts_its_trials(launcher: str, tmp_path: Path) -> None:
    low, high = swept(launcher, tmp_path)
    assert low["total_return"] != high["total_return"]
    assert max(low["trials"], high["trials"]) == 2  # type: ignore[type-var]
    page = (tmp_path / "out" / "comparison.html").read_text()
    for words in ("No result", "fraction=0.02", "fraction=0.5", 'href="0/report.html"'):
        assert words in page
