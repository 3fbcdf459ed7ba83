"""What rooms register: it is there, with what its kind asks for, and loads when it is asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from foundation.registry import registered, registered_module

ROOT = Path(__file__).resolve().parent.parent.parent
KINDS = {"JOBS": ("open_job",), "FEES": ("SCHEDULE",), "DESKS": ("PracticeSettings", "OptionDesk")}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_registered_has_what_its_kind_asks_for(kind: str) -> None:
    assert registered(kind)
    for word in registered(kind):
        module = registered_module(kind, word)
        assert [name for name in KINDS[kind] if not hasattr(module, name)] == []


def test_to_look_who_is_registered_loads_no_module_of_theirs() -> None:
    code = (
        "import sys; from foundation.registry import registered;"
        f" modules = [m for kind in {list(KINDS)} for m in registered(kind).values()];"
        " print(bool(modules), [m for m in modules if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "True []"


def test_a_job_that_nobody_registers_is_one_line_and_exit_code_2() -> None:
    done = subprocess.run(
        [sys.executable, "trade_stock_e2e.py", "symbols=[NVDA]", "jobs=[trade,spread]"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: jobs.1: ")
    assert "spreads" in line
