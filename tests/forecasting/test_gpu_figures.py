"""What `make gpu` runs on a machine that is met once runs here too, on few windows: the figures
come out, the file is left.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from forecasting.chronos2.checkpoint import SHIPPED, checkpoint
from studies.benchmarks import bare_machine as machine
from studies.benchmarks import forecast_speed as speed
from studies.benchmarks import gates
from studies.benchmarks import test_forecasting_speed as figures
from studies.benchmarks.conftest import Table, head

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_row_says_what_how_fast_and_how_wrong(dtype: str, tmp_path: Path) -> None:
    with speed.taking_turns(tmp_path / "turn") as alone:
        row = speed.beside_the_pipeline(str(SHIPPED), dtype, 40, (16,), 40, 20, alone)
    assert row.ours > 0 < row.pipeline
    assert row.batch == 16
    assert (0 < row.mean <= row.largest < 1e-4) == (dtype == "fp32")
    here = Table(tmp_path / "new" / "gpu.md", head())
    assert figures.add(here, json.dumps(asdict(row)), "shipped", dtype)
    assert not figures.add(here, "not within 60 s", "120 M", dtype)
    text = here.path.read_text()
    *_, header, line, first, second = text.strip().splitlines()
    assert header.count("|") == line.count("|") == first.count("|") == second.count("|")
    assert f"120 M, {dtype}" in second
    assert "none: not within 60 s" in second
    for word in ("warm-up", "torch 2.", "commit", "Errors"):
        assert word in text


def test_a_figure_is_measured_in_a_process_with_a_limit_of_its_own(tmp_path: Path) -> None:
    turn = str(tmp_path / "turn")
    words = ("forecast_speed", 120, "few", str(SHIPPED), "fp32", "4", turn)
    row = json.loads(figures.answered(*words))
    assert row["windows"] == 4
    assert row["note"].endswith(" ms a call")
    assert figures.answered(words[0], 0.2, *words[2:]) == "not within 0 s"
    assert "is no folder and no hub id" in figures.answered(
        words[0], 120, "few", "/none/such", "fp32", "4", turn
    )


def test_what_is_asked_stands_beside_what_is_measured() -> None:
    """120 M: ten tokens of 100 bars, of which the last layer goes on with two; 1.74 GFLOP."""
    assert gates.SERIES["120 M", "bf16"].said(201.5) == "201.5 k series/s for ≥ 150: met"
    assert gates.RATIO.said(9.94) == "9.9 × the pipeline for ≥ 10: missed"
    assert gates.WARM.said(2.5) == "2.5 s from a warm start for ≤ 3: met"
    large = replace(checkpoint(str(SHIPPED)), patch=16, width=768, inner=3072, attention=768)
    full = 5 * 768**2 + 2 * 768 * 3072
    last = 10 * 2 * 768**2 + 2 * (3 * 768**2 + 2 * 768 * 3072)
    assert gates.flops_a_window(large, 12, 100) == 2 * (11 * 10 * full + last) == 1_736_441_856
    assert gates.peak_of("NVIDIA H100 80GB HBM3", "bf16") == 989e12
    assert gates.peak_of("NVIDIA H100 PCIe", "tf32") == 378e12
    assert gates.peak_of("NVIDIA H100 PCIe", "fp32") == 51e12
    assert gates.peak_of("a card of next year", "bf16") is None


def test_the_references_agree(tmp_path: Path) -> None:
    """What a GPU is compared with is what the library answers."""
    import numpy as np
    from chronos import Chronos2Pipeline

    windows = speed.walks(1, 31)
    rows = np.arange(31)
    ours = speed.on_the_cpu(str(SHIPPED), windows, rows)
    theirs = speed.by(Chronos2Pipeline.from_pretrained(str(SHIPPED)), windows, rows)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_a_machine_without_cuda_is_told_so_in_one_line() -> None:
    script = str(ROOT / "studies" / "benchmarks" / "bare_machine.py")
    answer = subprocess.run(
        [sys.executable, script, "cuda"], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 2
    assert answer.stderr.startswith("make gpu: torch ")
    assert len(answer.stderr.strip().splitlines()) == 1


def test_what_lacks_is_named_and_what_is_brought_along_has_no_torch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.check_packages()
    monkeypatch.setattr(machine, "NEEDED", ("numpy", "no-such-package"))
    with pytest.raises(SystemExit, match="2"):
        machine.check_packages()
    assert capsys.readouterr().err.startswith(
        "make gpu: not installed: no-such-package; `make wheels`"
    )
    monkeypatch.undo()
    names = {line.split("==")[0] for line in machine.pins()}
    assert {"chronos-forecasting", "accelerate", "pandas", "tokenizers"} <= names
    assert not names & {"torch", "numba", "llvmlite", "pyarrow", "scipy"}
    assert not {n for n in names if n.startswith(("nvidia", "triton", "cuda"))}


def test_wheels_that_are_too_heavy_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, size in (("a", 40), ("b", 19)):
        with (tmp_path / f"{name}-1.0-py3-none-any.whl").open("wb") as stream:
            stream.truncate(size * 10**6)
    machine.weigh(tmp_path)
    assert capsys.readouterr().out == "2 wheels, 59.0 MB: a 40.0, b 19.0, …\n"
    with (tmp_path / "c-1.0-py3-none-any.whl").open("wb") as stream:
        stream.truncate(2 * 10**6)
    with pytest.raises(SystemExit, match="2"):
        machine.weigh(tmp_path)
    assert capsys.readouterr().err == "make gpu: 61.0 MB of wheels are more than 60\n"


def test_no_step_of_make_gpu_asks_an_index() -> None:
    recipe = subprocess.run(
        ["make", "--dry-run", "gpu"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    installs = [line for line in recipe.splitlines() if "pip install" in line]
    assert installs
    assert all("--no-index" in line for line in installs)
    minutes = [int(each) for each in re.findall(r"timeout (\d+)m", recipe)]
    assert sum(minutes) == 8
    assert recipe.count("-m gpu") == 2
