"""Machines of a Ray cluster as processes beside this one, on loopback, with a token."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from forecasting.chronos2.ray_predictor import LOCAL_RAY_ENVIRONMENT, NO_USAGE_STATS


@contextmanager
def ray_head(cores: int) -> Iterator[Any]:
    """A cluster of one machine: `add_node` is another one, `remove_node` kills its processes."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (LOCAL_RAY_ENVIRONMENT | NO_USAGE_STATS).items():
            patch.setenv(name, value)
        patch.setenv("RAY_AUTH_TOKEN", os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32))
        import ray
        from ray.cluster_utils import Cluster

        head = {"num_cpus": cores, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()
