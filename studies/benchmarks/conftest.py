from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

Seconds = Callable[..., float]
os.environ.setdefault("HF_HUB_OFFLINE", "1")

HEAD = """# Forecasts on a GPU

{device}, {cores} CPU cores, {machine}; Python {python}, torch {torch} (CUDA {cuda}),
chronos-forecasting {chronos}; commit {commit}, {date}. Medians of three runs after one warm-up of
the same work. The pipeline is
`Chronos2Pipeline` in fp32 at the best of its batch sizes, in the same process. The roofline is what
the device multiplies at most in that dtype, by its data sheet; memory is the most that torch held
of the device. Errors: differences from the same windows' answers by {reference}, in a window's
deviation.

| what | windows/s | pipeline (batch) | ratio | roofline | GiB | largest | mean | asked |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True)
class Table:
    """A Markdown file that is rewritten with each row, so that a timeout loses no measurement."""

    path: Path
    head: str
    rows: list[str] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        """Add and print one row."""
        self.rows.append(f"| {' | '.join(cells)} |\n")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(self.head + "".join(self.rows))
        print(f"\n{' | '.join(cells)}")


def head() -> str:
    """Return a description of the machine and the libraries."""
    gpu = torch.cuda.is_available()
    return HEAD.format(
        device=torch.cuda.get_device_name() if gpu else "no GPU",
        cores=os.cpu_count(),
        machine=platform.machine(),
        python=sys.version.split()[0],
        torch=torch.__version__,
        cuda=torch.version.cuda,
        chronos=version("chronos-forecasting"),
        commit=os.environ.get("COMMIT") or "unknown",
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        reference="the CPU in fp32" if gpu else "the pipeline",
    )


@pytest.fixture(scope="session")
def table(pytestconfig: pytest.Config) -> Table:
    """Return the report of `make gpu`: outputs/gpu.md, or outputs/bench.md without a GPU."""
    name = "gpu.md" if torch.cuda.is_available() else "bench.md"
    return Table(pytestconfig.rootpath / "outputs" / name, head())


@pytest.fixture
def seconds() -> Seconds:
    """Return a function that measures the median seconds of several calls after one warm-up."""
    from studies.benchmarks.forecast_speed import seconds

    return seconds


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep forecasts and trials of a measurement out of the user's cache."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))
