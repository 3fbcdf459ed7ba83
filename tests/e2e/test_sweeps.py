"""Launchers: Hydra's real ones on the backtest, and Ray's clusters at an address."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.forecasting.kept import content
from tests.support.commands import run_command
from tests.support.ray_nodes import ray_head_address

ROOT = Path(__file__).resolve().parent.parent.parent
SPAN = ("data.start=2024-01-02", "data.end=2024-03-08")
WORDS = ("start=2024-03-04", *SPAN, "forecaster=oracle", "symbols=[SYA,SYB]")
BATCH = ("-m", "forecasting.batch", "start=2024-02-20", *SPAN)


def swept(launcher: str, folder: Path, *others: str) -> list[dict[str, object]]:
    command = [sys.executable, "-m", "marketsimulator.backtest", "-m"]
    command += [f"hydra/launcher={launcher}", "sizing.fraction=0.02,0.5"]
    words = [f"hydra.sweep.dir={folder / 'out'}", f"trials={folder / 'trials.sqlite'}", *others]
    done = subprocess.run([*command, *WORDS, *words], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / "out" / job / "summary.json").read_text()) for job in ("0", "1")]


@pytest.mark.slow
def test_sweep_writes_one_folder_per_run(tmp_path: Path) -> None:
    low, high = swept("joblib", tmp_path)
    assert low["total_return"] != high["total_return"]
    assert (low["trials"], high["trials"]) == (0, 0), "an oracle is no trial"


@pytest.fixture
def head() -> Iterator[str]:
    """The address of a Ray head with two cores, on loopback, with a token of its own."""
    with ray_head_address(cores=2) as address:
        yield address


@pytest.mark.slow
def test_forecasts_run_on_given_ray_cluster(head: str, tmp_path: Path) -> None:
    command = [sys.executable, *BATCH, "symbols=[SYA,SYB]"]
    files = []
    for name, launcher in (("local", []), ("ray", ["launcher=ray", f"ray.address={head}"])):
        cache = f"forecaster.cache={tmp_path / name}"
        output = tmp_path / f"{name}.parquet"
        done = subprocess.run(
            [*command, cache, f"output={output}", *launcher],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        kept = content(tmp_path / name)
        assert kept
        files.append((output.read_bytes(), kept))
    assert files[0] == files[1]


def test_unreachable_ray_address_gives_one_line_error(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        words = [*BATCH, "symbols=[SYA]", f"forecaster.cache={tmp_path / 'cache'}", "launcher=ray"]
        done = run_command([*words, f"ray.address=127.0.0.1:{port}"], cwd=tmp_path)
    assert done.returncode == 2
    # A slow machine prints lines of progress before it.
    (line,) = (each for each in done.stderr.splitlines() if " s: " not in each)
    assert line.startswith(f"error: ray.address: no response from 127.0.0.1:{port} (")
    assert content(tmp_path) == {}
