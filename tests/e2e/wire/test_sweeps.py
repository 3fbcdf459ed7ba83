"""Launchers: Hydra's real ones on the backtest, and Ray's clusters at an address."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forecasting.kept import content
from tests.support.commands import run_command
from tests.support.ray_nodes import ray_head_address

ROOT = Path(__file__).resolve().parents[3]
SPAN = ("data.start=2024-01-02", "data.end=2024-03-08")
WORDS = ("start=2024-03-04", *SPAN, "forecaster=oracle", "symbols=[SYA,SYB]")
BATCH = ("-m", "forecasting.batch", "start=2024-02-20", *SPAN)


@pytest.mark.slow
def test_sweep_writes_one_folder_per_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "marketsimulator.backtest", "-m", "hydra/launcher=joblib"]
    words = [f"hydra.sweep.dir={tmp_path / 'out'}", f"trials={tmp_path / 'trials.sqlite'}"]
    command += ["sizing.fraction=0.02,0.5", *WORDS, *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    low, high = (
        json.loads((tmp_path / "out" / job / "summary.json").read_text()) for job in ("0", "1")
    )
    assert low["total_return"] != high["total_return"]
    assert (low["trials"], high["trials"]) == (0, 0), "an oracle is no trial"


@pytest.mark.slow
def test_forecasts_run_on_given_ray_cluster(tmp_path: Path) -> None:
    command = [sys.executable, *BATCH, "symbols=[SYA,SYB]"]
    files = []
    with ray_head_address(cores=2) as head:
        for name, launcher in (("local", []), ("ray", ["launcher=ray", f"ray.address={head}"])):
            output = tmp_path / f"{name}.parquet"
            done = subprocess.run(
                [*(*command, f"forecaster.cache={tmp_path / name}", f"output={output}"), *launcher],
                capture_output=True,
                text=True,
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            )
            assert done.returncode == 0, done.stderr
            files.append((output.read_bytes(), content(tmp_path / name)))
    assert files[0] == files[1]
    assert files[0][1]


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
