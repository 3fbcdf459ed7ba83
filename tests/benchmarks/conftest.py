from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import pytest
import torch

Seconds = Callable[..., float]


@pytest.fixture
def seconds() -> Seconds:
    """Median seconds of `runs` calls after one warm-up, the GPU waited for where there is one."""

    def measure(work: Callable[[], object], runs: int = 3) -> float:
        work()
        taken = []
        for _ in range(runs):
            began = time.perf_counter()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - began)
        return statistics.median(taken)

    return measure
