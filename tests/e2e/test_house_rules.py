from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
ROOMS = ("forecasting", "sizing", "marketsimulator", "execution", "trainingdata")
SOURCES = [p for room in ROOMS for p in (ROOT / room).rglob("*.py")] + [ROOT / "trade_stock_e2e.py"]


def test_nothing_reads_what_could_execute() -> None:
    """Lesson 14: no pickle, no torch.load, no eval, no unsafe YAML anywhere."""
    forbidden = re.compile(
        r"\bpickle\b|joblib\.load|torch\.load\(|\beval\(\w|\bexec\(|yaml\.load\(|read_pickle|allow_pickle=True"
    )
    found = [f"{p.relative_to(ROOT)}: {m.group()}" for p in SOURCES for m in forbidden.finditer(p.read_text())]
    assert found == []


@pytest.mark.parametrize("module", [*ROOMS, "execution.trader", "forecasting.chronos2", "marketsimulator.settlement"])
def test_importing_loads_no_model_library_and_the_decision_no_simulator(module: str) -> None:
    heavy = ["torch", "transformers", "chronos", "sklearn", "alpaca", "plotly", "hydra"]
    heavy += [] if module.startswith("marketsimulator") else ["marketsimulator"]
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_environment_variables_reach_the_code_only_through_configuration() -> None:
    read = re.compile(r"os\.environ(?!\[\"HYDRA_FULL_ERROR\"\] = )|getenv")
    found = [str(p.relative_to(ROOT)) for p in SOURCES if read.search(p.read_text())]
    assert found == []


def test_every_file_stays_readable() -> None:
    """Lesson 14: one system of this kind had a script of 4,866 lines."""
    assert {str(p.relative_to(ROOT)): n for p in SOURCES if (n := len(p.read_text().splitlines())) > 400} == {}
