"""Forecasts computed by tasks on a Ray cluster.

The driver puts the windows into Ray's object store once. A task computes one portion of the
windows, in a process that keeps its loaded network between tasks. Only the driver writes results,
so that machines need no shared disk. If a process dies, Ray reassigns its portion.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from forecasting.chronos2.forecaster import Chronos2Forecaster
from forecasting.chronos2.profile import InferenceProfile
from forecasting.forecast import HORIZON, LEVELS, Progress, empty_array
from forecasting.windows import Windows
from foundation import VERSION
from foundation.arrays import Array32, Index
from foundation.errors import InputError, not_installed_error, to_one_line
from foundation.formatting import format_count
from foundation.settings import setting, settings_class

if TYPE_CHECKING:  # compiled code; checking settings must not load it
    from forecasting.chronos2.cached_forecaster import Prediction

log = logging.getLogger(__name__)

TASKS_PER_WORKER_SLOT = 2  # submitted tasks per slot: one is running, one is queued
MAX_TASK_ATTEMPTS = 3  # attempts at a portion whose process dies, before it is an error
FIRST_TASK_TIMEOUT_SECONDS = 600.0  # timeout of the first task, in seconds
PROBE_TIMEOUT_SECONDS = 5.0  # timeout of a connection to the cluster's address, in seconds
# Ray reports usage statistics to its developers by default.
NO_USAGE_STATS_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0"}
# A Ray instance that is started for one command listens on loopback only, and requires a token.
LOCAL_RAY_ENVIRONMENT = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}


@settings_class("ray")
class RaySettings:
    """Settings of the Ray cluster that runs the tasks, and of the resources of each task."""

    address: str | None = setting(
        None,
        "`host:port` of an existing Ray cluster, or `auto`; null: start Ray on this machine for "
        "this command only",
    )
    cores: int = setting(1, "processor cores per task", ge=1, le=1024)
    gpus: int = setting(1, "GPUs per task if the cluster has GPUs; 0: none", ge=0, le=64)

    def __post_init__(self) -> None:
        if self.address is not None and self.address != "auto":
            host, _, port = self.address.rpartition(":")
            if not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 2**16:
                raise InputError(
                    f"ray.address: {self.address!r} is neither host:port of a Ray head node nor"
                    " auto; write one of them, and run the command on a machine of the cluster"
                )


@dataclass(frozen=True, slots=True)
class RayPredictor:
    """A predictor for `CachedForecaster` that computes forecasts on a Ray cluster.

    settings: settings of the cluster.
    """

    settings: RaySettings = field(default_factory=RaySettings)

    def __call__(
        self,
        forecaster: Chronos2Forecaster,
        windows: Windows,
        portions: Sequence[Index],
        profile: InferenceProfile,
        progress: Progress,
    ) -> Generator[Prediction, None, None]:
        """Compute portions of windows on the cluster; yield each prediction when it is completed.

        All windows use the same model profile. The first prediction has no forecasts and only
        carries the specification.
        """
        from forecasting.chronos2.cached_forecaster import Prediction

        ray = connect_ray(self.settings.address)
        total = sum(map(len, portions))
        places, share = _task_slots(self.settings, ray.nodes(), profile)
        # A process that has computed on a GPU is reused, with its loaded network.
        task = ray.remote(max_calls=0, max_retries=MAX_TASK_ATTEMPTS - 1, **share)(_run_task)
        given = (forecaster, profile.for_window_count(total), self.settings.cores)
        # In a list, so that a task receives the reference and maps the object.
        shared = [ray.put(windows)]
        count = format_count(min(places, len(portions)), "task")
        log.info("running %s at a time on Ray, each with %s", count, share)
        left = deque([np.empty(0, dtype=np.int64), *portions])
        running: dict[Any, Index] = {}
        first: TaskResult | None = None
        done = 0
        try:
            while left or running:
                # The first portion is empty and alone: it tells the specification of the others.
                while left and len(running) < (
                    1 if first is None else TASKS_PER_WORKER_SLOT * places
                ):
                    rows = left.popleft()
                    running[task.remote(*given, shared, rows)] = rows
                ended, _ = ray.wait(
                    list(running), timeout=FIRST_TASK_TIMEOUT_SECONDS if first is None else None
                )
                if not ended:
                    raise InputError(
                        f"ray: no task started within {FIRST_TASK_TIMEOUT_SECONDS / 60:.0f}"
                        " minutes; wait until the cluster has free resources, or lower ray.cores or"
                        " ray.gpus"
                    )
                rows = running.pop(ended[0])
                answer = _fetch_task_result(ray, ended[0])
                first = first or answer
                _refuse_different_worker(answer, first)
                log.info(
                    "%s computed by %s",
                    format_count(len(rows), "forecast"),
                    answer.worker_description,
                )
                done += len(rows)
                if done:
                    progress("forecasts", done, total)
                yield Prediction(rows, answer.quantiles, answer.specification)
        finally:
            for reference in running:
                ray.cancel(reference, force=True)


class TaskResult(NamedTuple):
    """Result of a Ray task.

    worker_description: text that names the task's host, process and computation.
    package_version: version of kelly-chronos on the host.
    quantiles: [n, H, Q] price quantiles in USD.
    specification: inputs of the forecasts other than bars, and their computation.
    """

    worker_description: str
    package_version: str
    quantiles: Array32
    specification: Mapping[str, Any]


def _run_task(
    forecaster: Chronos2Forecaster,
    profile: InferenceProfile,
    cores: int,
    shared: list[Any],
    rows: Index,
) -> TaskResult:
    """Compute the forecasts of windows in a process of the cluster.

    cores: number of CPU cores that the task may use.
    shared: references to the windows in Ray's object store.
    rows: indices of the windows.
    """
    import ray
    import torch

    # The last bits of sums depend on the number of threads.
    torch.set_num_threads(cores)
    engine = forecaster.load_engine(profile)
    values = empty_array(0, HORIZON, len(LEVELS))
    if len(rows):
        values = forecaster.predict(ray.get(shared[0]), rows, profile, engine=engine)
    machine = f"{socket.gethostname()}, process {os.getpid()} ({engine.computation_description})"
    return TaskResult(machine, VERSION, values, forecaster.build_specification(profile, engine))


def _fetch_task_result(ray: Any, reference: Any) -> TaskResult:
    """Return a task's result; convert Ray's long errors to an InputError of one line."""
    try:
        answer: TaskResult = ray.get(reference)
        return answer
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise InputError(f"{error.cause} (on a machine of the Ray cluster)") from None
        raise
    except ray.exceptions.RayError as error:
        raise InputError(
            f"ray: {MAX_TASK_ATTEMPTS} processes crashed on the same task, possibly out of memory;"
            " raise ray.cores to run fewer tasks at a time, and install kelly-chronos on every"
            f" machine ({to_one_line(str(error))})"
        ) from None


def _refuse_different_worker(answer: TaskResult, first: TaskResult) -> None:
    """Reject the result of a machine whose version or computation differs from the first one's."""
    if answer.package_version != VERSION:
        raise InputError(
            f"ray: kelly-chronos has version {answer.package_version} on"
            f" {answer.worker_description}, but {VERSION} on this machine; install the same"
            " version on every machine of the cluster"
        )
    ours, its = first.specification, answer.specification
    other = [name for name, value in ours.items() if its.get(name) != value]
    if other:
        raise InputError(
            f"ray: machines differ in {', '.join(other)}: {other[0]} is {its.get(other[0])} on"
            f" {answer.worker_description}, but {ours[other[0]]} on the first machine; install the"
            " same model and libraries on all, or set forecaster.batch_size and forecaster.compile"
        )


def _task_slots(
    settings: RaySettings, nodes: Iterable[Mapping[str, Any]], profile: InferenceProfile
) -> tuple[int, dict[str, int]]:
    """Return the number of tasks that the cluster can run at a time, and one task's resources."""
    machines = [node["Resources"] for node in nodes if node["Alive"]]
    has_gpus = any(machine.get("GPU", 0) >= 1 for machine in machines)
    share = {"num_cpus": settings.cores}
    share["num_gpus"] = settings.gpus if has_gpus and profile.device != "cpu" else 0
    count = 0
    for machine in machines:
        capacities = [machine.get("CPU", 0) // share["num_cpus"]]
        capacities += [machine.get("GPU", 0) // share["num_gpus"]] if share["num_gpus"] else []
        count += int(min(capacities))
    if not count:
        what = format_count(share["num_cpus"], "core")
        what += f" and {format_count(share['num_gpus'], 'GPU')}" if share["num_gpus"] else ""
        raise InputError(
            f"ray.cores, ray.gpus: no machine of the cluster has {what} for a task; lower them"
        )
    return count, share


def connect_ray(address: str | None) -> Any:
    """Connect the Ray library and return it.

    address: `host:port` of a cluster, or `auto`; None: start Ray on this machine.

    Raises InputError if Ray is not installed, or cannot be started or reached.
    """
    loaded = sys.modules.get("ray")
    if loaded is not None and loaded.is_initialized():
        return loaded
    if address is None:
        # The library reads these when it is imported.
        if loaded is not None:
            raise InputError(
                "ray.address: not set, but ray is already imported; set it, or call ray.init()"
                " first"
            )
        os.environ.update(LOCAL_RAY_ENVIRONMENT, RAY_AUTH_TOKEN=secrets.token_hex(32))
    os.environ.update(NO_USAGE_STATS_ENVIRONMENT)
    try:
        import ray
    except ModuleNotFoundError as error:
        raise not_installed_error(str(error.name), "launcher=ray", "ray") from None
    if address not in (None, "auto"):
        _probe(str(address))
    with _keep_signal_handler():
        try:
            ray.init(
                address or "local",
                include_dashboard=None if address else False,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
        except (SystemExit, OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            if address is None:
                problem = "Ray cannot be started on this machine"
            else:
                problem = (
                    f"cannot join a Ray cluster at {address} (if it needs a token, set"
                    " RAY_AUTH_MODE=token and RAY_AUTH_TOKEN in the environment)"
                )
            raise InputError(f"ray.address: {problem}: {to_one_line(str(error))}") from None
    return ray


def _probe(address: str) -> None:
    """Check that the address accepts connections, because Ray itself would try for two minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection(
            (host.strip("[]"), int(port)), timeout=PROBE_TIMEOUT_SECONDS
        ).close()
    except OSError as error:
        raise InputError(
            f"ray.address: no response from {address} ({error.strerror or error}); start a cluster"
            " with `ray start --head`, or remove the setting"
        ) from None


@contextmanager
def _keep_signal_handler() -> Iterator[None]:
    """Return a context manager that restores the SIGTERM handler, which Ray replaces.

    The command then prints its own message when it is terminated.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
