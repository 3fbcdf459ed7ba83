"""Speed of the network, each figure in a process with a time limit: `make bench`, `make gpu`.

A figure is written as soon as it is known.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from forecasting.chronos2.checkpoint import BUNDLED_CHECKPOINT
from studies.benchmarks import gates
from tests.support.random_chronos2 import large_checkpoint

pytestmark = [pytest.mark.gpu, pytest.mark.bench]

GPU = torch.cuda.is_available()
ROOT = Path(__file__).resolve().parents[2]
# What, model, dtype, windows on a GPU and on a CPU.
FIGURES = [
    ("many", "120 M", "bf16", 131_072, 128),
    ("many", "120 M", "tf32", 131_072, 0),
    ("many", "120 M", "fp32", 131_072, 128),
    ("many", "shipped", "bf16", 524_288, 20_000),
    ("many", "shipped", "tf32", 524_288, 0),
    ("many", "shipped", "fp32", 524_288, 20_000),
    ("few", "120 M", "fp32", 18, 18),  # a live decision
    ("few", "shipped", "fp32", 18, 18),
]
LIMIT = 200  # seconds that a figure may take, including the wait for its turn


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return folders of the shipped checkpoint, and of a 120 M network with random weights."""
    return {
        "120 M": large_checkpoint(tmp_path_factory.mktemp("large")),
        "shipped": BUNDLED_CHECKPOINT,
    }


def answered(module: str, limit: float, *words: str, **environment: str) -> str:
    """Run a module in a process; return its last output line, or the reason for a failure."""
    command = [sys.executable, "-m", f"studies.benchmarks.{module}", *words]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not within {limit:.0f} s"
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"


def row_cells(row: dict[str, Any], what: str, dtype: str) -> list[str]:
    """Return the cells of a row, with targets next to measurements."""
    ratio = row["ours"] / row["pipeline"]
    share = row["share"]
    asked = [row["note"]]
    if GPU and row["windows"] > 1000:
        gate = gates.SERIES.get((what, dtype))
        asked += [gate.verdict_text(row["ours"] / 1000)] if gate else []
        asked.append(gates.RATIO.verdict_text(ratio))
        asked += [gates.SHARE.verdict_text(share)] if share is not None and what == "120 M" else []
    return [
        f"{row['what']}, {row['windows']:,} windows",
        f"{row['ours']:,.0f}",
        f"{row['pipeline']:,.0f} ({row['batch']})",
        f"{ratio:.2f} ×",
        "" if share is None else f"{share:.0f} %",
        f"{row['memory']:.2f}",
        f"{row['largest']:.1e}",
        f"{row['mean']:.1e}",
        "; ".join(asked),
    ]


def add(table: Any, line: str, what: str, dtype: str) -> bool:
    """Write a row of a process's result, or of its failure; return whether it succeeded."""
    try:
        row = json.loads(line)
    except ValueError:
        table.add(f"{what}, {dtype}", *[""] * 7, f"none: {line}")
        return False
    table.add(*row_cells(row, what, dtype))
    return True


def test_network_speed_figures_are_measured(
    models: dict[str, Path], table: Any, tmp_path: Path
) -> None:
    """Measure every figure; on a GPU the processes prepare together, and each measures alone."""

    def figure(what: str, model: str, dtype: str, on_a_gpu: int, on_a_cpu: int) -> bool:
        count = on_a_gpu if GPU else on_a_cpu
        words = (what, str(models[model]), dtype, str(count), str(tmp_path / "turn"))
        return add(table, answered("forecast_speed", LIMIT, *words), model, dtype)

    asked = [figure for figure in FIGURES if GPU or figure[-1]]
    with ThreadPoolExecutor(len(asked) if GPU else 1) as pool:
        assert all(list(pool.map(lambda words: figure(*words), asked)))


@pytest.mark.skipif(not GPU, reason="no CUDA")
@pytest.mark.parametrize(("what", "dtype"), [("120 M", "bf16"), ("shipped", "fp32")])
def test_time_to_first_forecast_with_compiled_network(
    what: str, dtype: str, tmp_path: Path, models: dict[str, Path], table: Any
) -> None:
    caches = {
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
        "TRITON_CACHE_DIR": str(tmp_path / "triton"),
    }
    words = (str(models[what]), dtype)
    cold, warm = (float(answered("warm_start", 60, *words, **caches)) for _ in range(2))
    name = f"{what}, {dtype}, first answers of a process: {cold:.1f} s, then {warm:.1f} s"
    table.add(name, *[""] * 7, gates.WARM.verdict_text(warm))
