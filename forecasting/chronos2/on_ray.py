"""Forecasts computed by actors on the machines of a Ray cluster.

The driver puts the windows into Ray's object store once; each actor holds an engine and answers one
portion of them after another. Only the driver keeps what they answer, so that machines need no disk
in common. A portion whose actor dies is answered by another one, and a new actor takes its place.
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
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from forecasting.chronos2.cached import Prediction
from forecasting.chronos2.forecaster import Chronos2Forecaster
from forecasting.chronos2.profile import Profile
from forecasting.forecast import Progress
from forecasting.windows import Windows
from foundation import VERSION
from foundation.arrays import Array32, Index
from foundation.counts import counted
from foundation.errors import InputError, in_one_line
from foundation.settings import setting, settings_class

if TYPE_CHECKING:
    from forecasting.chronos2.engine import Engine

log = logging.getLogger(__name__)

AHEAD = 2  # portions an actor has at a time: one that it computes, one that waits
ATTEMPTS = 3  # actors that may die with one portion, or one after the other while they start
PATIENCE = 600.0  # seconds until an actor must have begun where none has
PROBE = 5.0  # seconds for a cluster's address to answer
# Ray reports on its use to its makers unless it is told not to.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
# A Ray that is started for one command talks on loopback alone, to whoever knows its token.
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}


@settings_class("ray")
class RaySettings:
    """Where actors run, and what each of them has."""

    address: str | None = setting(
        None,
        "`host:port` of this machine's Ray cluster, or `auto`; none starts Ray here, for "
        "this command alone",
    )
    cores: int = setting(1, "processor cores an actor", ge=1, le=1024)
    gpus: int = setting(1, "GPUs an actor, where there are any; 0: none", ge=0, le=64)

    def __post_init__(self) -> None:
        if self.address is not None and self.address != "auto":
            host, _, port = self.address.rpartition(":")
            if not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 2**16:
                raise InputError(
                    f"ray.address: {self.address!r} is neither host:port of a cluster's head nor"
                    " auto; run the command on a machine of the cluster"
                )


@dataclass(frozen=True, slots=True)
class RayPredictions:
    """Computes portions on a Ray cluster; `forecasting.chronos2.cached` says how it is asked."""

    settings: RaySettings = field(default_factory=RaySettings)

    def __call__(
        self,
        forecaster: Chronos2Forecaster,
        windows: Windows,
        portions: Sequence[Index],
        profile: Profile,
        progress: Progress,
    ) -> Generator[Prediction, None, None]:
        """Compute portions of windows that share a profile; they come as they are ready."""
        ray = connected(self.settings.address)
        total = sum(map(len, portions))
        profile = profile.for_job(total)
        places, options = _places(self.settings, ray.nodes(), profile)
        maker = ray.remote(PortionActor).options(**options)
        shared = ray.put(windows)
        crew = _Crew(ray, lambda: maker.remote(forecaster, shared, profile, self.settings.cores))
        count = min(places, len(portions))
        log.info("%s on Ray, each with %s", counted(count, "actor"), options)
        done = 0
        try:
            for answer in crew.predictions(portions, count):
                done += len(answer.rows)
                progress("forecasts", done, total)
                yield answer
        finally:
            crew.dismiss()


class PortionActor:
    """An engine in a process of its own, on one of the cluster's machines."""

    def __init__(
        self, forecaster: Chronos2Forecaster, windows: Windows, profile: Profile, cores: int
    ) -> None:
        self._forecaster = forecaster
        self._windows = windows
        self._profile = profile
        self._cores = cores
        self._engine: Engine | None = None

    def begin(self) -> tuple[str, str, Mapping[str, Any]]:
        """(machine, version of the project there, what will compute); the engine is loaded."""
        import torch

        # The last bits of sums depend on how many threads share them.
        torch.set_num_threads(self._cores)
        self._engine = self._forecaster.engine(self._profile)
        specification = self._forecaster.specification(self._profile, self._engine)
        return socket.gethostname(), VERSION, specification

    def answer(self, rows: Index) -> tuple[str, Array32, Mapping[str, Any]]:
        """(who and how, quantiles [n, H, Q] in USD, what has computed them) of these windows."""
        engine = self._engine or self._forecaster.engine(self._profile)
        values = self._forecaster.answer(self._windows, rows, self._profile, by=engine)
        by = f"{socket.gethostname()}, process {os.getpid()}: {engine.computation}"
        return by, values, self._forecaster.specification(self._profile, engine)


@dataclass(frozen=True, eq=False, slots=True)
class _Task:
    """What an actor has been given to do.

    actor: who.
    rows: the portion; none while the actor begins.
    deaths: actors that have died over it.
    """

    actor: Any
    rows: Index | None
    deaths: int


@dataclass(eq=False, slots=True)
class _Crew:
    """The actors of one call, and what each of them does.

    ray: the library, connected.
    hire: starts an actor.
    tasks: what is being done, by the reference that Ray gave for it.
    waiting: portions that nobody has yet, and how many actors have died over each.
    """

    ray: Any
    hire: Callable[[], Any]
    tasks: dict[Any, _Task] = field(default_factory=dict)
    waiting: deque[tuple[Index, int]] = field(default_factory=deque)
    _members: set[Any] = field(default_factory=set)
    _specification: Mapping[str, Any] | None = None

    def predictions(self, portions: Iterable[Index], count: int) -> Iterator[Prediction]:
        """Answers of all portions by so many actors; an empty one when the first has begun."""
        self.waiting.extend((rows, 0) for rows in portions)
        for _ in range(count):
            self._begin(deaths=0)
        while self.waiting or self._computing:
            task, result = self._next()
            if result is None:
                self._replace(task)
                continue
            said, made, specification = result
            first = self._specification is None
            self._check(said, specification)
            if task.rows is None:
                self._check_version(said, made)
                if first:
                    yield Prediction.empty(specification)
                self._give(task.actor, AHEAD)
            else:
                log.info("%s by %s", counted(len(task.rows), "forecast"), said)
                self._give(task.actor, 1)
                yield Prediction(task.rows, made, specification)

    def dismiss(self) -> None:
        """End every actor, whatever it does."""
        for actor in self._members:
            self.ray.kill(actor)
        self._members.clear()

    @property
    def _computing(self) -> bool:
        return any(task.rows is not None for task in self.tasks.values())

    def _begin(self, deaths: int) -> None:
        actor = self.hire()
        self._members.add(actor)
        self.tasks[actor.begin.remote()] = _Task(actor, None, deaths)

    def _give(self, actor: Any, count: int) -> None:
        """Give an actor so many of the portions that wait, unless it has died meanwhile."""
        for _ in range(min(count, len(self.waiting)) if actor in self._members else 0):
            rows, deaths = self.waiting.popleft()
            self.tasks[actor.answer.remote(rows)] = _Task(actor, rows, deaths)

    def _next(self) -> tuple[_Task, tuple[str, Any, Mapping[str, Any]] | None]:
        """(a task that has ended, what came of it); None where its actor has died."""
        errors = self.ray.exceptions
        patience = None if self._computing else PATIENCE
        ended, _ = self.ray.wait(list(self.tasks), num_returns=1, timeout=patience)
        if not ended:
            raise InputError(
                f"ray: no actor could begin within {PATIENCE / 60:.0f} minutes; wait until the"
                " cluster has room, or ask for fewer cores or GPUs an actor"
            )
        task = self.tasks.pop(ended[0])
        try:
            return task, self.ray.get(ended[0])
        except errors.RayTaskError as error:
            # Ray's own words are a page of the actor's stack; what the user can mend is its cause.
            if isinstance(error.cause, InputError):
                raise InputError(f"on a machine of the Ray cluster: {error.cause}") from None
            raise
        except (
            errors.RayActorError,
            errors.ObjectLostError,
            errors.OutOfMemoryError,
            errors.NodeDiedError,
            errors.WorkerCrashedError,
        ) as error:
            log.warning("an actor died, another takes its place: %s", in_one_line(str(error)))
            if task.deaths + 1 >= ATTEMPTS:
                raise InputError(self._hopeless_text(task, error)) from None
            return task, None

    def _replace(self, task: _Task) -> None:
        """Put the portion back in front; a new actor for the one that has died."""
        if task.rows is not None:
            self.waiting.appendleft((task.rows, task.deaths + 1))
        if task.actor in self._members:
            self._members.discard(task.actor)
            self.ray.kill(task.actor)
            self._begin(task.deaths + 1 if task.rows is None else 0)
        for actor in self._idle():
            self._give(actor, AHEAD)

    def _idle(self) -> set[Any]:
        return self._members - {task.actor for task in self.tasks.values()}

    def _check(self, said: str, specification: Mapping[str, Any]) -> None:
        """Refuse a machine that does not compute as the first one did."""
        if self._specification is None:
            self._specification = specification
        other = [k for k, v in self._specification.items() if specification.get(k) != v]
        if other:
            raise InputError(
                f"ray: machines do not compute alike: {said} has another"
                f" {', '.join(other)} ({specification.get(other[0])}) than the first"
                f" ({self._specification[other[0]]}); give all of them the same model and"
                " libraries, or set forecaster.batch_size and forecaster.compile"
            )

    def _check_version(self, machine: str, version: str) -> None:
        if version != VERSION:
            raise InputError(
                f"ray: {machine} has version {version} of kelly-chronos, and {VERSION} runs here;"
                " install the same on every machine of the cluster"
            )

    def _hopeless_text(self, task: _Task, error: Exception) -> str:
        what, advice = "over the same portion", "higher ray.cores make fewer actors"
        if task.rows is None:
            what, advice = "while they started", "is kelly-chronos installed on every machine?"
        return f"ray: {ATTEMPTS} actors died {what}: {advice} ({in_one_line(str(error))})"


def _places(
    settings: RaySettings, nodes: Iterable[Mapping[str, Any]], profile: Profile
) -> tuple[int, dict[str, int]]:
    """(how many actors the cluster has room for, what each takes of it)."""
    machines = [node["Resources"] for node in nodes if node["Alive"]]
    has_gpus = any(machine.get("GPU", 0) >= 1 for machine in machines)
    gpus = settings.gpus if has_gpus and profile.device != "cpu" else 0

    def most(what: str) -> int:
        return int(max((machine.get(what, 0) for machine in machines), default=0))

    count = 0
    for machine in machines:
        room = int(machine.get("CPU", 0) // settings.cores)
        count += min(room, int(machine.get("GPU", 0) // gpus)) if gpus else room
    if not count:
        raise InputError(
            "ray.cores, ray.gpus: no machine of the cluster has"
            f" {_room_text(settings.cores, gpus)} for an actor; the largest has"
            f" {_room_text(most('CPU'), most('GPU') if gpus else 0)}"
        )
    return count, {"num_cpus": settings.cores, "num_gpus": gpus}


def _room_text(cores: int, gpus: int) -> str:
    text = counted(cores, "core")
    return f"{text} and {counted(gpus, 'GPU')}" if gpus else text


def connected(address: str | None) -> Any:
    """The library, connected to a cluster or to a Ray of this machine's own."""
    loaded = sys.modules.get("ray")
    if loaded is not None and loaded.is_initialized():
        return loaded
    if address is None:
        # The library reads these when it is imported.
        if loaded is not None:
            raise InputError("ray.address: name one, or call ray.init() after importing ray")
        os.environ.update(ALONE, RAY_AUTH_TOKEN=secrets.token_hex(32))
    os.environ.update(QUIET)
    try:
        import ray
    except ModuleNotFoundError as error:
        raise InputError(
            f"launcher: {error.name} is not installed: launcher=ray needs pip install"
            " 'kelly-chronos[ray]'"
        ) from None
    if address not in (None, "auto"):
        _probe(str(address))
    with _signals_kept():
        try:
            ray.init(
                address or "local",
                include_dashboard=None if address else False,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
        except (SystemExit, OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            if address is None:
                said = "Ray could not be started on this machine"
            else:
                said = (
                    f"no Ray cluster could be joined at {address}; one with a token needs"
                    " RAY_AUTH_MODE=token and RAY_AUTH_TOKEN in the environment"
                )
            raise InputError(f"ray.address: {said}: {in_one_line(str(error))}") from None
    return ray


def _probe(address: str) -> None:
    """Ask whether anything listens: Ray itself asks for two minutes before it gives up."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE).close()
    except OSError as error:
        raise InputError(
            f"ray.address: nothing answers at {address} ({error.strerror or error}); start a"
            " cluster with `ray start --head`, or leave the address away"
        ) from None


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray handles SIGTERM in its own way, where the command has a line for it."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
