"""Tasks on a Ray cluster: one function over many items, with a value that all tasks share.

The driver puts the shared value into Ray's object store once. Tasks run in processes that are kept
between tasks. Only the driver writes results, so that machines need no shared disk. If a process
dies, Ray runs its task again in another one.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar

from forecasting.chronos2.profile import RaySettings
from foundation import VERSION
from foundation.errors import InputError, not_installed_error, to_one_line
from foundation.formatting import format_count

Item = TypeVar("Item")
Answer = TypeVar("Answer")

TASKS_PER_WORKER_SLOT = 2  # submitted tasks per slot: one is running, one is queued
MAX_TASK_ATTEMPTS = 3  # attempts at a task whose process dies, before it is an error
FIRST_TASK_TIMEOUT_SECONDS = 600.0  # timeout of the first task, in seconds
PROBE_TIMEOUT_SECONDS = 5.0  # timeout of a connection to the cluster's address, in seconds
# Ray reports usage statistics to its developers by default.
NO_USAGE_STATS_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0"}
# A Ray instance that is started for one command listens on loopback only, and requires a token.
LOCAL_RAY_ENVIRONMENT = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}


def run_tasks(
    settings: RaySettings,
    function: Callable[[Any, Item], Answer],
    shared: object,
    items: Sequence[Item],
    *,
    uses_gpus: bool = False,
    prepare: Callable[[Any], Any] | None = None,
) -> Generator[tuple[int, str, Answer], None, None]:
    """Run a function on the cluster for each item; yield answers in the order of completion.

    The first item runs alone, so that its answer comes first. Closing the generator cancels the
    tasks that still run.

    function: function of the shared value and an item; it must be importable on every machine.
    uses_gpus: whether a task takes GPUs if the cluster has any.
    prepare: function that each process applies to the shared value once; None for none.

    Yields the item's index, the task's host and process, and the answer.

    Raises
    ------
    InputError
        if the cluster cannot be reached, is too small or has another version, or if a task's
        processes keep dying or its function raises InputError.
    """
    ray = connect_ray(settings.address)
    places, share = task_slots(settings, ray.nodes(), uses_gpus=uses_gpus)
    # A process that has computed on a GPU is reused, with what it has loaded.
    task = ray.remote(max_calls=0, max_retries=MAX_TASK_ATTEMPTS - 1, **share)(_run_task)
    # In a list, so that a task receives the reference and maps the object.
    given = (function, prepare, VERSION, [ray.put(shared)])
    left = iter(enumerate(items))
    running: dict[Any, int] = {}
    free = 1
    timeout: float | None = FIRST_TASK_TIMEOUT_SECONDS
    try:
        while True:
            running |= {task.remote(*given, item): number for number, item in islice(left, free)}
            if not running:
                return
            ended, _ = ray.wait(list(running), timeout=timeout)
            if not ended:
                raise InputError(
                    f"ray: no task started within {FIRST_TASK_TIMEOUT_SECONDS / 60:.0f}"
                    " minutes; wait until the cluster has free resources, or lower ray.cores or"
                    " ray.gpus"
                )
            number = running.pop(ended[0])
            worker, answer = _fetch_answer(ray, ended[0])
            yield number, worker, answer
            free, timeout = TASKS_PER_WORKER_SLOT * places - len(running), None
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def _run_task(
    function: Callable[[Any, Any], Any],
    prepare: Callable[[Any], Any] | None,
    version: str,
    shared: list[Any],
    item: Any,
) -> tuple[str, Any]:
    """Run the function for an item in a process of the cluster.

    version: the driver's version of kelly-chronos.
    shared: reference to the shared value in Ray's object store.
    """
    worker = f"{socket.gethostname()}, process {os.getpid()}"
    if version != VERSION:
        raise InputError(
            f"ray: kelly-chronos has version {VERSION} on {worker}, but {version} on the machine"
            " that started the command; install the same version on every machine of the cluster"
        )
    return worker, function(_shared_value(shared[0], prepare), item)


@lru_cache(maxsize=1)
def _shared_value(reference: Any, prepare: Callable[[Any], Any] | None) -> Any:
    import ray

    value = ray.get(reference)
    return value if prepare is None else prepare(value)


def _fetch_answer(ray: Any, reference: Any) -> tuple[str, Any]:
    """Return a task's answer; convert Ray's long errors to an InputError of one line."""
    try:
        answer: tuple[str, Any] = ray.get(reference)
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


def task_slots(
    settings: RaySettings, nodes: Iterable[Mapping[str, Any]], *, uses_gpus: bool
) -> tuple[int, dict[str, int]]:
    """Return the number of tasks that the cluster can run at a time, and one task's resources.

    nodes: the machines, as `ray.nodes()` lists them.

    Raises InputError if no machine has the resources of a task.
    """
    machines = [node["Resources"] for node in nodes if node["Alive"]]
    takes_gpus = uses_gpus and settings.gpus and any(m.get("GPU", 0) >= 1 for m in machines)
    needs = {"CPU": settings.cores} | ({"GPU": settings.gpus} if takes_gpus else {})
    count = sum(
        int(min(machine.get(kind, 0) // number for kind, number in needs.items()))
        for machine in machines
    )
    if not count:
        what = " and ".join(
            format_count(number, "core" if kind == "CPU" else kind)
            for kind, number in needs.items()
        )
        raise InputError(
            f"ray.cores, ray.gpus: no machine of the cluster has {what} for a task; lower them"
        )
    return count, {"num_cpus": settings.cores, "num_gpus": needs.get("GPU", 0)}


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
