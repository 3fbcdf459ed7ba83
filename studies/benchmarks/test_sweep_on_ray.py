"""10,000 variants over two machines of a Ray cluster, and in one process with one core."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from typing import Any

import pytest

from forecasting.chronos2.profile import RaySettings
from marketsimulator.runs.outcome import simulate_variants, simulate_variants_on_ray
from tests.marketsimulator.on_ray_checks import content, sweep_of
from tests.support.ray_nodes import ray_head

pytestmark = [
    pytest.mark.bench,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
VARIANTS = int(os.environ.get("VARIANTS", "10_000"))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def test_sweep_speed_over_two_ray_machines() -> None:
    variants, market, beliefs = sweep_of(VARIANTS)
    simulate_variants(variants[:4], market, beliefs, workers=1)
    spent = time.process_time()
    alone, expected = timed(lambda: simulate_variants(variants, market, beliefs, workers=1))
    spent = time.process_time() - spent
    with ray_head(cores=1) as cluster:
        starting, node = timed(lambda: cluster.add_node(num_cpus=1))
        settings = RaySettings(address=cluster.address)
        first, _ = timed(
            lambda: simulate_variants_on_ray(variants[:100], market, beliefs, settings)
        )
        threads, _ = timed(lambda: simulate_variants(variants, market, beliefs, workers=2))
        before = resource.getrusage(resource.RUSAGE_SELF)
        two, found = timed(lambda: simulate_variants_on_ray(variants, market, beliefs, settings))
        after = resource.getrusage(resource.RUSAGE_SELF)
        assert content(found) == content(expected)
        killed: list[int] = []

        def kill(work: str, done: int, total: int) -> None:
            if done >= total // 2 and not killed:
                killed.append(done)
                cluster.remove_node(node, allow_graceful=False)

        wounded, found = timed(
            lambda: simulate_variants_on_ray(variants, market, beliefs, settings, progress=kill)
        )
        assert killed
        assert content(found) == content(expected)
    driver = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    bars = market.run_bars
    print(
        f"\n{VARIANTS:,} variants of {len(bars.symbols)} symbols × {len(bars.times):,}"
        f" instants: one core {alone:.1f} s ({spent:.1f} s of processor),"
        f" two threads {threads:.1f} s;"
        f" two machines {two:.1f} s, efficiency {alone / two / 2:.2f}, the driver's share"
        f" {driver:.1f} s; one killed after {killed[0]:,}: {wounded:.1f} s. A machine starts in"
        f" {starting:.1f} s, its first tasks take {first:.1f} s. The same bytes each time."
    )
