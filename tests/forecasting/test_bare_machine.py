"""What `make gpu` meets on a bare machine: an interpreter that has torch, and the wheels that are
brought along, and nothing else.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from forecasting.chronos2.checkpoint import BUNDLED_CHECKPOINT as SHIPPED_FOLDER
from studies.benchmarks.bare_machine import LEFT_OUT, NEEDED, closure

pytestmark = pytest.mark.slow

BUNDLED_CHECKPOINT = str(SHIPPED_FOLDER)
ROOT = Path(__file__).resolve().parents[2]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with torch, what torch needs, and what is brought along."""
    folder = tmp_path_factory.mktemp("libraries")
    for name in {*closure(NEEDED, LEFT_OUT, PYTHON), *closure(("torch",), (), PYTHON)}:
        installed = distribution(name)
        for top in {file.parts[0] for file in installed.files or ()} - {"..", "__pycache__"}:
            place = folder / top
            if not place.exists():
                place.symlink_to(Path(str(installed.locate_file(top))).absolute())
    return folder


def bare(libraries: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Python without the packages that are installed here."""
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ},
        "PYTHONPATH": f"{libraries}{os.pathsep}{ROOT}",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    return subprocess.run(
        [sys.executable, "-S", *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_gpu_tests_pass_on_cpu_without_optional_libraries(libraries: Path, tmp_path: Path) -> None:
    for name in ("numba", "pyarrow", "scipy", "exchange_calendars", "hypothesis"):
        assert "ModuleNotFoundError" in bare(libraries, "-c", f"import {name}").stderr
    words = ("-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "--confcutdir")
    ran = bare(libraries, *words, "tests/forecasting", "tests/forecasting/test_gpu.py")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " passed, " in ran.stdout
    figures = "studies/benchmarks/test_forecasting_speed.py"
    collected = bare(libraries, *words, "studies/benchmarks", "--collect-only", figures)
    assert collected.returncode == 0, collected.stdout + collected.stderr
    assert "test_network_speed_figures_are_measured" in collected.stdout
    words = ("few", BUNDLED_CHECKPOINT, "fp32", "4", str(tmp_path / "turn"))
    row = bare(libraries, "-m", "studies.benchmarks.forecast_speed", *words)
    assert row.returncode == 0, row.stderr
    assert row.stdout.rstrip().endswith('ms a call"}')
