"""Variants on two machines: the bytes of one process, also where a machine dies in the middle.

`test_variants_on_ray.py` runs these checks in a process of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from execution.decision.beliefs import BeliefTable
from forecasting import ray_tasks
from forecasting.chronos2.profile import RaySettings
from foundation.errors import InputError
from foundation.settings import with_changes
from marketsimulator.runs.outcome import VariantOutcome, simulate_variants, simulate_variants_on_ray
from marketsimulator.settings import BacktestSettings
from tests.marketsimulator.runs import SPAN, settings_of, trader_of
from tests.support.ray_nodes import ray_head
from tests.support.searches import SMALL, search_content, searched
from trainingdata.bars import VOLUME
from trainingdata.market import Market

# Ray leaves processes to themselves that it has started.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
WORDS = [*SPAN, "forecaster=ewma", "forecaster.calibrated=false"]
Sweep = tuple[list[BacktestSettings], Market, BeliefTable]


def sweep_of(count: int) -> Sweep:
    """Variants, the market of all of them, and what is believed in it."""
    settings = settings_of(*WORDS)
    market = settings.load_market()
    trader = trader_of(settings, market)
    beliefs = trader.build_beliefs(market)
    fractions = np.linspace(0.01, 1.0, count)
    variants = [with_changes(settings, {"sizing.fraction": float(each)}) for each in fractions]
    return variants, market, beliefs


def content(found: Sequence[VariantOutcome]) -> list[tuple[bytes, object]]:
    """Every byte of the equity, and the totals of every variant."""
    return [(each.equity.tobytes(), each.totals) for each in found]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with ray_head(cores=1) as cluster:
        yield cluster


def test_dying_machine_loses_no_variant(cluster: Any) -> None:
    variants, market, beliefs = sweep_of(60)
    alone = simulate_variants(variants, market, beliefs)
    assert len({each.equity[-1] for each in alone}) > 40
    told = []
    node = cluster.add_node(num_cpus=1)

    def kill_in_the_middle(work: str, done: int, total: int) -> None:
        told.append((done, total))
        if len(told) == 5:
            cluster.remove_node(node, allow_graceful=False)

    settings = RaySettings(address=cluster.address)
    found = simulate_variants_on_ray(
        variants, market, beliefs, settings, per_task=3, progress=kill_in_the_middle
    )
    assert not node.any_processes_alive()
    assert told == [(3 * k, 60) for k in range(1, 21)]
    assert content(found) == content(alone)


def test_variant_error_is_one_line_on_any_machine(cluster: Any) -> None:
    variants, market, beliefs = sweep_of(1)
    values = market.bars.values.copy()
    values[0, :, VOLUME] = 0.0
    still = replace(market, bars=replace(market.bars, values=values))
    with pytest.raises(InputError, match=r"^\w+: .*fills.volume_share"):
        simulate_variants_on_ray(variants, still, beliefs, RaySettings(address=cluster.address))


def test_a_machine_with_another_version_is_refused(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_tasks, "VERSION", "0.0")
    with pytest.raises(InputError, match=r"^ray: .*, but 0\.0 on the machine"):
        simulate_variants_on_ray(*sweep_of(1), RaySettings(address=cluster.address))


def test_search_on_ray_chooses_as_in_one_process(cluster: Any) -> None:
    local = searched()
    words = ["launcher=ray", f"ray.address='{cluster.address}'"]
    assert search_content(searched(*SMALL, *words)) == search_content(local)
