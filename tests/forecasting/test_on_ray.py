"""Forecasts computed on Ray: the bytes of a local run, whoever dies meanwhile."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from forecasting import ray_tasks
from forecasting.chronos2.cached_forecaster import CachedForecaster, Predictor
from forecasting.chronos2.engine import Engine
from forecasting.chronos2.forecaster import Chronos2Forecaster
from forecasting.chronos2.profile import InferenceProfile, RaySettings
from forecasting.chronos2.ray_predictor import predict_on_ray
from forecasting.forecast import Progress, no_progress
from forecasting.settings import BatchSettings, ForecasterSettings
from forecasting.windows import Windows
from foundation.arrays import Array32, Index
from foundation.errors import InputError
from tests.forecasting.kept import content
from tests.support.messages import refused
from trainingdata.bars import Bars

# Ray leaves processes to themselves that it has started.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ON_RAY = partial(predict_on_ray, RaySettings())
ASKED: list[Engine] = []  # engines whose specification this process has been asked for
MACHINE = {"CPU": 16.0, "GPU": 2.0}
# A machine and its process, its weights, its version of the project.
PLACE = r"\S+, process \d+|\b[0-9a-f]{64}\b|\b\d+\.\d+\.\d+\b"


@dataclass(frozen=True, eq=False, slots=True)
class Mortal(Chronos2Forecaster):
    """Its process is killed over the first or the last portion, as often as `marks` lets it be.

    marks: an empty folder; a file of it is a death.
    """

    marks: str = ""
    lives: int = 1
    last: bool = False

    def predict(
        self,
        windows: Windows,
        rows: Index,
        profile: InferenceProfile,
        progress: Progress = no_progress,
        engine: Engine | None = None,
    ) -> Array32:
        folder = Path(self.marks)
        died = len(list(folder.iterdir()))
        fatal = windows.issued_at.max() if self.last else windows.issued_at.min()
        if fatal in windows.issued_at[rows] and died < self.lives:
            (folder / str(died)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        # `super()` without arguments does not find a class with slots.
        return Chronos2Forecaster.predict(self, windows, rows, profile, progress, engine)


@dataclass(frozen=True, eq=False, slots=True)
class Uneven(Chronos2Forecaster):
    """Computes otherwise than it has begun."""

    def build_specification(
        self, profile: InferenceProfile, engine: Engine | None = None
    ) -> dict[str, Any]:
        said: dict[str, Any] = Chronos2Forecaster.build_specification(self, profile, engine)
        if engine is not None:
            ASKED.append(engine)
        return {**said, "weights": "others"} if len(ASKED) > 1 else said


@dataclass(frozen=True, eq=False, slots=True)
class Homeless(Chronos2Forecaster):
    """Finds no model, wherever it is."""

    def load_engine(self, profile: InferenceProfile) -> Engine:
        raise InputError("forecaster.model: there is no such folder")


@pytest.fixture(scope="module")
def two_places() -> Iterator[Predictor]:
    """A Ray of this machine's own, with room for two."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (
            *ray_tasks.LOCAL_RAY_ENVIRONMENT,
            *ray_tasks.NO_USAGE_STATS_ENVIRONMENT,
            "RAY_AUTH_TOKEN",
        ):
            patch.setenv(name, "0" * 64)
            patch.delenv(name)
        yield ON_RAY
        if "ray" in sys.modules:
            sys.modules["ray"].shutdown()


@pytest.fixture(scope="module")
def local(market: Bars, tmp_path_factory: pytest.TempPathFactory) -> dict[bytes, tuple[bytes, ...]]:
    folder = tmp_path_factory.mktemp("local")
    threads = torch.get_num_threads()
    torch.set_num_threads(RaySettings().cores)
    CachedForecaster(Chronos2Forecaster(), folder).forecast(market, market.times[0])
    torch.set_num_threads(threads)
    files = content(folder)
    assert len(files) == 3
    return files


@pytest.mark.slow
def test_ray_forecasts_equal_local_ones_despite_killed_workers(
    two_places: Predictor, local: dict[bytes, tuple[bytes, ...]], market: Bars, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    forecaster = Mortal(marks=str(marks), lives=2)
    folder = tmp_path / "cache"
    CachedForecaster(forecaster, folder, two_places).forecast(market, market.times[0])
    assert len(list(marks.iterdir())) == 2
    assert content(folder) == local
    said: list[str] = []
    again = CachedForecaster(Chronos2Forecaster(), folder)
    again.forecast(market, market.times[0], lambda work, done, total: said.append(work))
    assert [work.endswith("from cache") for work in said] == [True]


@pytest.mark.slow
def test_repeatedly_crashing_task_ends_run_keeping_other_results(
    two_places: Predictor, local: dict[bytes, tuple[bytes, ...]], market: Bars, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    # The last one: another has been answered before it is met.
    forecaster = Mortal(marks=str(marks), lives=100, last=True)
    folder = tmp_path / "cache"
    with refused(InputError, "ray", "3"):
        CachedForecaster(forecaster, folder, two_places).forecast(market, market.times[0])
    assert len(list(marks.iterdir())) == 3
    kept = content(folder)
    assert 0 < len(kept) < len(local)
    assert kept.items() <= local.items()
    # A run after it computes what is missing and nothing else.
    totals = set()
    CachedForecaster(Chronos2Forecaster(), folder, two_places).forecast(
        market, market.times[0], lambda work, done, total: totals.add(total)
    )
    assert content(folder) == local
    everything = len(Chronos2Forecaster().build_windows(market, market.times[0]))
    assert max(totals) < everything


@pytest.mark.slow
@pytest.mark.parametrize(
    ("forecaster", "fact"),
    [(Uneven(), "ray"), (Homeless(), "forecaster.model")],
    ids=["weights", "model"],
)
def test_unusable_machines_are_refused_in_one_line(
    forecaster: Chronos2Forecaster, fact: str, two_places: Predictor, market: Bars, tmp_path: Path
) -> None:
    with refused(InputError, fact, varies=PLACE) as caught:
        CachedForecaster(forecaster, tmp_path, two_places).forecast(market, market.times[0])
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_machine_with_another_version_is_refused(
    two_places: Predictor, market: Bars, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_tasks, "VERSION", "0.0")
    with refused(InputError, "ray", "0.0", varies=PLACE):
        CachedForecaster(Chronos2Forecaster(), tmp_path, two_places).forecast(
            market, market.times[-30]
        )
    assert content(tmp_path) == {}


@pytest.mark.parametrize(
    ("settings", "machines", "device", "count", "each"),
    [
        (RaySettings(), [MACHINE, {"CPU": 16.0}], "auto", 2, (1, 1)),
        (RaySettings(cores=10), [MACHINE, MACHINE], "auto", 2, (10, 1)),
        (RaySettings(gpus=0, cores=4), [MACHINE], "auto", 4, (4, 0)),
        (RaySettings(cores=4), [MACHINE, {"CPU": 7.0}], "cpu", 5, (4, 0)),
        (RaySettings(cores=4), [{"CPU": 7.0}, {}], "auto", 1, (4, 0)),
    ],
)
def test_task_uses_a_gpu_if_present_else_cores(
    settings: RaySettings,
    machines: list[Mapping[str, float]],
    device: Any,
    count: int,
    each: tuple[int, int],
) -> None:
    nodes = [{"Alive": True, "Resources": machine} for machine in machines]
    nodes.append({"Alive": False, "Resources": {"CPU": 1000.0, "GPU": 1000.0}})
    options = {"num_cpus": each[0], "num_gpus": each[1]}
    assert ray_tasks.task_slots(settings, nodes, uses_gpus=device != "cpu") == (count, options)


@pytest.mark.parametrize("settings", [RaySettings(cores=4), RaySettings(gpus=2)])
def test_cluster_too_small_for_a_task_is_refused(settings: RaySettings) -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": 2.0, "GPU": 1.0}}]
    with refused(InputError, "ray.cores", "ray.gpus"):
        ray_tasks.task_slots(settings, nodes, uses_gpus=True)


def test_missing_ray_error_names_the_extra_to_install(
    market: Bars, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in (
        *ray_tasks.LOCAL_RAY_ENVIRONMENT,
        *ray_tasks.NO_USAGE_STATS_ENVIRONMENT,
        "RAY_AUTH_TOKEN",
    ):
        monkeypatch.setenv(name, "")
    with refused(InputError, "ray", ".[ray]"):
        CachedForecaster(Chronos2Forecaster(), tmp_path, ON_RAY).forecast(market, market.times[-30])
    assert content(tmp_path) == {}


def test_ray_address_must_be_host_and_port() -> None:
    for address in ("head:6379", "127.0.0.1:6379", "[::1]:6379", "auto", None):
        assert RaySettings(address=address).address == address
    for address in ("here", "ray://head:10001", "http://head:6379", "head:", "head:0", ":6379", ""):
        with refused(InputError, "ray.address"):
            RaySettings(address=address)


def test_ray_requires_a_cached_model_forecaster() -> None:
    assert BatchSettings(launcher="ray").launcher == "ray"
    for changes in ({"kind": "ewma"}, {"cache": None}, {"device": "cuda:1"}):
        with refused(InputError):
            BatchSettings(launcher="ray", forecaster=ForecasterSettings(**changes))  # type: ignore[arg-type]
