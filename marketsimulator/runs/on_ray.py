"""Variants side by side on a Ray cluster: the outcomes of one process, byte for byte.

The market and the beliefs are put into Ray's object store once, and every process of the cluster
copies them once. A task walks some variants, one after the other; Ray gives the tasks of a machine
that dies to the others, up to `ATTEMPTS` times each.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import lru_cache
from typing import Any

from execution.decision.beliefs import BeliefTable
from forecasting.chronos2.on_ray import ATTEMPTS, RaySettings, connected
from forecasting.forecast import Progress, silent
from foundation import VERSION
from foundation.errors import InputError, in_one_line
from marketsimulator.runs.outcome import Outcome
from marketsimulator.runs.variants import outcomes
from marketsimulator.settings import BacktestSettings
from trainingdata.market import Market

CHUNK = 50  # variants a task: what laying out the panel takes is shared by as many


def outcomes_on_ray(
    variants: Sequence[BacktestSettings],
    market: Market,
    beliefs: BeliefTable,
    settings: RaySettings | None = None,
    *,
    progress: Progress = silent,
) -> list[Outcome]:
    """`outcomes` of these variants, computed by a Ray cluster.

    settings: which cluster; its `cores` are what a task reserves.
    """
    settings = settings or RaySettings()
    ray = connected(settings.address)
    walk = ray.remote(_walk).options(num_cpus=settings.cores, max_retries=ATTEMPTS)
    # In a list, so that a task is given the reference and copies what it stands for itself.
    shared = [ray.put((market, beliefs))]
    starts = range(0, len(variants), CHUNK)
    waiting = {
        walk.remote(shared, list(variants[start : start + CHUNK]), VERSION): start
        for start in starts
    }
    found: dict[int, list[Outcome]] = {}
    done = 0
    try:
        while waiting:
            [ended], _ = ray.wait(list(waiting), num_returns=1)
            start = waiting.pop(ended)
            found[start] = ray.get(ended)
            done += len(found[start])
            progress("variants", done, len(variants))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise InputError(str(error.cause)) from None
        raise
    except ray.exceptions.RayError as error:
        raise InputError(
            f"ray: processes died {ATTEMPTS + 1} times over the same {CHUNK} variants; does their"
            f" machine have the memory? The last one: {in_one_line(str(error))}"
        ) from None
    finally:
        for task in waiting:
            ray.cancel(task)
    return [outcome for start in starts for outcome in found[start]]


def _walk(shared: list[Any], variants: list[BacktestSettings], version: str) -> list[Outcome]:
    """A task: the outcomes of some variants."""
    if version != VERSION:
        raise InputError(
            f"ray: a machine has version {VERSION} of kelly-chronos, and {version} asks; install"
            " the same on every machine of the cluster"
        )
    return outcomes(variants, *_copied(shared[0]), workers=1)


@lru_cache(maxsize=1)
def _copied(reference: Any) -> tuple[Market, BeliefTable]:
    """What a reference stands for. Ray's arrays cannot be written to, which is another type to
    compiled code: a copy is what the other processes have.
    """
    import ray

    market, beliefs = ray.get(reference)
    return deepcopy(market), deepcopy(beliefs)
