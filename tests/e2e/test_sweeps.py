"""Launchers: Hydra's real ones on the backtest, and Ray's clusters at an address."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import run_command
from tests.forecasting.kept import content

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
def test_a_sweep_writes_a_run_a_folder_and_counts_its_trials(tmp_path: Path) -> None:
    low, high = swept("joblib", tmp_path)
    assert low["total_return"] != high["total_return"]
    assert max(low["trials"], high["trials"]) == 2  # type: ignore[type-var]
    page = (tmp_path / "out" / "comparison.html").read_text()
    for words in ("No result", "fraction=0.02", "fraction=0.5", 'href="0/report.html"'):
        assert words in page


@pytest.fixture
def head(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The address of a Ray head with two cores, on loopback, with a token of its own."""
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "5a" * 32)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Ray's sockets lie in the folder, and their names may be a hundred characters long.
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        words = [f"--port={port}", "--node-ip-address=127.0.0.1", "--num-cpus=2"]
        words += ["--include-dashboard=false", f"--temp-dir={folder}", "--head", "--block"]
        with subprocess.Popen(
            [str(Path(sys.executable).with_name("ray")), "start", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as started:
            assert started.stdout is not None
            try:
                assert any("will now block" in line for line in started.stdout)
                yield f"127.0.0.1:{port}"
            finally:
                started.terminate()
                started.communicate()


@pytest.mark.slow
def test_sweeps_and_forecasts_are_run_by_a_ray_cluster_at_an_address(
    head: str, tmp_path: Path
) -> None:
    address = f"hydra.launcher.ray.init.address={head}"
    # The launcher names a size of the object store, which a cluster that runs has chosen already.
    low, high = swept("ray", tmp_path, address, "+hydra.launcher.ray.init.object_store_memory=null")
    assert low["total_return"] != high["total_return"]
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


def test_an_address_where_nobody_answers_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        words = [*BATCH, "symbols=[SYA]", f"forecaster.cache={tmp_path / 'cache'}", "launcher=ray"]
        done = run_command([*words, f"ray.address=127.0.0.1:{port}"], cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: ray.address: nothing answers at 127.0.0.1:{port} (")
    assert content(tmp_path) == {}
