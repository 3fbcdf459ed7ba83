"""Machines of a Ray cluster as processes beside this one, on loopback, with a token."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from forecasting.ray_tasks import LOCAL_RAY_ENVIRONMENT, NO_USAGE_STATS_ENVIRONMENT

ROOT = Path(__file__).resolve().parents[2]

_HEAD = """
from tests.support.ray_nodes import ray_head
with ray_head({cores}) as cluster:
    print(cluster.address, flush=True)
    input()
"""


@contextmanager
def _ray_environment() -> Iterator[None]:
    """Variables of a cluster with a token, which the processes beside this one share."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (LOCAL_RAY_ENVIRONMENT | NO_USAGE_STATS_ENVIRONMENT).items():
            patch.setenv(name, value)
        patch.setenv("RAY_AUTH_TOKEN", os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32))
        yield


@contextmanager
def ray_head_address(cores: int) -> Iterator[str]:
    """The address of a cluster in a process of its own: Ray reads a token once in each."""
    command = [sys.executable, "-c", _HEAD.format(cores=cores)]
    with (
        _ray_environment(),
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        ) as head,
    ):
        assert head.stdin is not None
        assert head.stdout is not None
        yield head.stdout.readline().strip()
        head.stdin.write("\n")


@contextmanager
def ray_head(cores: int) -> Iterator[Any]:
    """A cluster of one machine: `add_node` is another one, `remove_node` kills its processes."""
    with _ray_environment():
        import ray
        from ray.cluster_utils import Cluster

        head = {"num_cpus": cores, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()
