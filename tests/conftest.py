from __future__ import annotations

import gc
import itertools
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest

from foundation.files import unlock_output_folders
from trainingdata.bars import Bars
from trainingdata.synthetic import SyntheticMarket

# Asserts of helper modules report what differed, as those of tests do; it has to precede imports.
pytest.register_assert_rewrite(
    "tests.support", "tests.e2e", "tests.marketsimulator", "tests.sizing"
)
from tests.support.money import COLLECTED, money_files, name_of  # noqa: E402

pytest_plugins = ("pytester", "tests.support.connections", "tests.support.messages")
ROOT = Path(__file__).resolve().parent.parent
WIRE = ROOT / "tests" / "e2e" / "wire"
DEAREST = 25  # tests that a run names at its end
COSTS = pytest.StashKey[dict[str, tuple[float, float]]]()
os.environ.setdefault("HF_HUB_OFFLINE", "1")
_TESTS = itertools.count()  # numbers of the tests of this process
MEMORY = Path("/dev/shm")
ROOM = 4 * 2**30  # bytes that there has to be for files of tests


def has_room_for_files(folder: Path) -> bool:
    """Whether tests may write there and run what they have written."""
    if not os.access(folder, os.W_OK):
        return False
    facts = os.statvfs(folder)
    return facts.f_bavail * facts.f_frsize > ROOM and not facts.f_flag & os.ST_NOEXEC


# A journal waits for the disk at every commit, which takes longer than all else that a test does.
if has_room_for_files(MEMORY):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
hypothesis.settings.register_profile("default", deadline=None, derandomize=True, max_examples=25)
hypothesis.settings.register_profile("dated", deadline=None, database=None, max_examples=100)
hypothesis.settings.register_profile("search", deadline=None, max_examples=3000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def selects(expression: str, *markers: str) -> bool:
    """Whether a run selects a marker by name, as `-m gpu` does."""
    return re.search(rf"(?<!not )\b({'|'.join(markers)})\b", expression) is not None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One per processor, and one more where tests wait for servers and commands."""
    return (os.cpu_count() or 1) + selects(config.option.markexpr, "wire", "slow")


def pytest_configure(config: pytest.Config) -> None:
    """All other tests compute on the CPU, also where there is a GPU: their numbers are the same
    everywhere.
    """
    config.stash[COSTS] = {}
    config.pluginmanager.register(Workers(config))
    if not selects(config.option.markexpr, "gpu", "bench"):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    # A shell's background job ignores Ctrl-C, and so would every command that it starts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Before any marker leaves tests out: note what there is, mark what is over the wire, the
    properties of money, and what is slow for being another example of a test whose first one is
    run.
    """
    config.stash[COLLECTED] = list(items)
    files = money_files()
    begun = set()
    for item in items:
        if item.path.parent == WIRE:
            item.add_marker(pytest.mark.wire)
        if item.get_closest_marker("first_example"):
            if name_of(item) in begun:
                item.add_marker(pytest.mark.slow)
            begun.add(name_of(item))
        if hasattr(getattr(item, "obj", None), "hypothesis") and name_of(item)[0] in files:
            item.add_marker(pytest.mark.money_property)


def pytest_collection_finish() -> None:
    """What was imported and collected lives as long as the run: looking through it again and again
    for garbage takes an eighth of the processor.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Note what a test costs: seconds, and seconds of a processor, its own and of processes that it
    waits for. Commands of `tests.support.commands` work in another process and are left out.
    """
    begun, worked = time.monotonic(), sum(os.times()[:4])
    try:
        return (yield)
    finally:
        cost = (time.monotonic() - begun, sum(os.times()[:4]) - worked)
        item.config.stash[COSTS][item.nodeid] = cost


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker hands what its tests cost to the process that reports."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["costs"] = session.config.stash[COSTS]


class Workers:
    """What the workers of a run hand in."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what the tests of a worker cost."""
        self._config.stash[COSTS].update(getattr(node, "workeroutput", {}).get("costs", {}))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The dearest tests, and what all of them come to: what is dear is to be seen every day."""
    costs = config.stash[COSTS]
    if len(costs) < 100:
        return
    seconds = sum(cost[0] for cost in costs.values())
    worked = sum(cost[1] for cost in costs.values())
    terminalreporter.section(
        f"dearest of {len(costs)} tests: {seconds:.0f} s, {worked:.0f} s of work"
    )
    for name, cost in sorted(costs.items(), key=lambda each: -each[1][1])[:DEAREST]:
        terminalreporter.write_line(f"{cost[0]:7.1f} s {cost[1]:7.1f} s of work  {name}")


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Forecasts and trials of a test run are kept beside its other files, never with the user's."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give each test its own account notes: two practice servers may get the same port."""
    folder = tmp_path_factory.getbasetemp() / "states"
    os.environ["XDG_STATE_HOME"] = str(folder / f"{next(_TESTS)}")


@pytest.fixture(autouse=True)
def outputs_are_held_no_longer() -> Iterator[None]:
    """A folder that a test writes is free at its end, as at the end of a command."""
    yield
    unlock_output_folders()


@pytest.fixture(scope="session")
def market() -> Bars:
    """Ten weeks of three synthetic stocks and two synthetic coins."""
    return SyntheticMarket(
        start="2024-01-02", end="2024-03-08", symbols=("SYA", "SYB", "SYC", "SYXUSD", "SYYUSD")
    ).generate_bars()


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
