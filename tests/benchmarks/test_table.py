"""What `make gpu` runs on a machine that is met once runs here too, on few windows: the figures
come out, the file is left.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from forecasting.chronos2.checkpoint import SHIPPED, checkpoint

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        f"{name}_here", Path(__file__).with_name(f"{name}.py")
    )
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found
    spec.loader.exec_module(found)
    return found


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_row_says_what_how_fast_and_how_wrong(
    dtype: str, tmp_path: Path, seconds: Callable[..., float], table: Any
) -> None:
    speed = module("test_forecasting_speed")
    measured = speed.beside_the_pipeline(seconds, str(SHIPPED), 40, (16,), 20, dtype=dtype)
    assert measured.ours > 0 < measured.pipeline
    assert measured.batch == 16
    assert (0 < measured.mean <= measured.largest < 1e-4) == (dtype == "fp32")
    here = type(table)(tmp_path / "new" / "gpu.md", table.head)
    here.add(*measured.cells("shipped", dtype))
    here.add(*speed.a_year(seconds, str(SHIPPED), dtype, symbols=2, hours=3, checked=4))
    text = here.path.read_text()
    *_, header, line, first, second = text.strip().splitlines()
    assert header.count("|") == line.count("|") == first.count("|") == second.count("|")
    for word in ("warm-up", "torch 2.", "commit", "Errors"):
        assert word in text


def test_what_is_asked_stands_beside_what_is_measured() -> None:
    """120 M: ten tokens of 100 bars, of which the last layer goes on with two; 1.74 GFLOP."""
    gates = module("gates")
    assert gates.SERIES["120 M", "bf16"].said(201.5) == "201.5 k series/s for ≥ 150: met"
    assert gates.RATIO.said(9.94) == "9.9 × the pipeline for ≥ 10: missed"
    assert gates.WARM.said(2.5) == "2.5 s from a warm start for ≤ 3: met"
    large = replace(checkpoint(str(SHIPPED)), patch=16, width=768, inner=3072, attention=768)
    full = 5 * 768**2 + 2 * 768 * 3072
    last = 10 * 2 * 768**2 + 2 * (3 * 768**2 + 2 * 768 * 3072)
    assert gates.flops_a_window(large, 12, 100) == 2 * (11 * 10 * full + last) == 1_736_441_856
    assert gates.peak_of("NVIDIA H100 80GB HBM3", "bf16") == 989e12
    assert gates.peak_of("NVIDIA H100 PCIe", "tf32") == 378e12
    assert gates.peak_of("NVIDIA H100 PCIe", "fp32") is None
    assert gates.peak_of("a card of next year", "bf16") is None


def test_the_references_agree(tmp_path: Path) -> None:
    """What a GPU is compared with is what the library answers."""
    import numpy as np
    from chronos import Chronos2Pipeline

    from forecasting.windows import Windows

    speed = module("test_forecasting_speed")
    closes = 100 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.01, 130)))
    last = np.arange(99, 130)
    stamps = np.datetime64("2024-01-01", "ns") + last * np.timedelta64(1, "h")
    windows = Windows((closes,), np.array([100]), np.zeros_like(last), last, stamps)
    rows = np.arange(len(last))
    ours = speed.on_the_cpu(str(SHIPPED), windows, rows)
    theirs = speed.by(Chronos2Pipeline.from_pretrained(str(SHIPPED)), windows, rows)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_a_machine_without_cuda_is_told_so_in_one_line() -> None:
    script = str(Path(__file__).with_name("bare_machine.py"))
    answer = subprocess.run(
        [sys.executable, script, "cuda"], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 2
    assert answer.stderr.startswith("make gpu: torch ")
    assert len(answer.stderr.strip().splitlines()) == 1


def test_what_lacks_is_named_and_what_is_brought_along_has_no_torch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = module("bare_machine")
    machine.check_packages()
    monkeypatch.setattr(machine, "NEEDED", ("numpy", "no-such-package"))
    with pytest.raises(SystemExit, match="2"):
        machine.check_packages()
    assert capsys.readouterr().err.startswith(
        "make gpu: not installed: no-such-package; `make wheels`"
    )
    monkeypatch.undo()
    names = {line.split("==")[0] for line in machine.pins()}
    assert {"chronos-forecasting", "accelerate", "pyluach", "tokenizers"} <= names
    assert not {n for n in names if n == "torch" or n.startswith(("nvidia", "triton", "cuda"))}


def test_no_step_of_make_gpu_asks_an_index() -> None:
    recipe = subprocess.run(
        ["make", "--dry-run", "gpu"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    installs = [line for line in recipe.splitlines() if "pip install" in line]
    assert installs
    assert all("--no-index" in line for line in installs)
    assert "timeout 8m" in recipe
    assert "-m gpu" in recipe
