from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from trainingdata.bars import Bars
from trainingdata.synthetic import SyntheticMarket

# Asserts of the helper modules beside the tests say what differed, as those of tests do.
pytest.register_assert_rewrite("tests.e2e", "tests.marketsimulator", "tests.sizing")

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("HF_HUB_OFFLINE", "1")
hypothesis.settings.register_profile("default", deadline=None, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None, max_examples=3000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def sees_the_gpu(expression: str) -> bool:
    """Whether a run asks for what needs a GPU by name: `-m gpu`, `-m bench`."""
    return re.search(r"(?<!not )\b(gpu|bench)\b", expression) is not None


def pytest_configure(config: pytest.Config) -> None:
    """All other tests compute on the CPU, also where there is a GPU: their numbers are the same
    everywhere.
    """
    if not sees_the_gpu(config.option.markexpr):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    # A shell's background job ignores Ctrl-C, and so would every command that it starts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Benchmarks import the peers they measure against: seconds that the default run, which has
    none of them, does not need.
    """
    if collection_path.name == "benchmarks" and "not bench" in config.option.markexpr:
        return True
    return None


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Forecasts and trials of a test run are kept beside its other files, never with the user's."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="session")
def market() -> Bars:
    """Ten weeks of three synthetic stocks and two synthetic coins."""
    return SyntheticMarket(
        start="2024-01-02", end="2024-03-08", symbols=("SYA", "SYB", "SYC", "SYXUSD", "SYYUSD")
    ).bars()


@pytest.fixture(scope="session")
def real_data() -> list[Path]:
    """The folders of real hourly bars, where a checkout has them beside it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real bars beside this checkout")
    return [folder / "hourly_stock", folder / "hourly_crypto"]


@pytest.fixture(scope="session")
def scrambled_after() -> Callable[[Bars, np.datetime64], Bars]:
    """Bars whose every price that starts at or after an instant is multiplied by a random walk."""

    def scramble(bars: Bars, cut: np.datetime64) -> Bars:
        rng = np.random.default_rng(9)
        later = bars.times > cut
        factor = np.exp(
            np.cumsum(rng.normal(0, 0.03, (len(bars.symbols), int(later.sum()))), axis=1)
        )
        values = bars.values.copy()
        values[:, later, :4] *= factor[:, :, None]
        return Bars(bars.instruments, bars.times, values, bars.mask, bars.source)

    return scramble
