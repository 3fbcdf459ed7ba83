"""Runs of a live command behind a wire that fails: started, killed, watched, searched for keys."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.e2e.fault_child import COMMITS, Control
from tests.e2e.fault_proxy import FaultProxy, Trap, When, faulty_wire
from tests.e2e.practice import KEYS, ROOT
from tests.support.commands import Started

PATIENCE = 60.0  # seconds of `FaultRun.clock` without progress or a reason
AT_WORK = 120.0  # the same after which work on one instant no longer counts as progress
LOOK = 0.005  # seconds between checks of a process
LISTEN = 0.1  # seconds between checks of its progress
LONGEST = "longest_silence_s"  # the one count that is not a sum
MEANT = (0, 2, 3)  # exit codes of a command that ended by itself, or found the kill file


@dataclass(frozen=True, slots=True)
class Door:
    """How an account is reached.

    environment: names and values of its keys.
    secrets: what must be in no file.
    api, orders: paths of its requests, and of orders that are sent, or how they begin.
    """

    environment: Mapping[str, str]
    secrets: Sequence[str]
    api: str
    orders: str


PASSWORD = "hushhush"
ALPACA = Door(
    {"APCA_API_KEY_ID": KEYS.key, "APCA_API_SECRET_KEY": KEYS.secret},
    (KEYS.key, KEYS.secret, PASSWORD),
    "/v2",
    "/v2/orders",
)
KILLED = 0.35  # share of a seller's runs
KILLED_WHEN: tuple[When, ...] = ("before", "flying", "after")
MOMENT = 0.05  # seconds between a request and its fault
PATIENT = ("broker.read_timeout=10", "broker.deadline=20", "broker.attempts=4")
CHILD = Path(__file__).with_name("fault_child.py")
Limits = Mapping[str, int]
NEXT_CYCLE = re.compile(r"The next cycle is at (\S+)Z")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command runs, and what it is watched by.

    folder: its working folder and its home.
    wire: between it and the practice server.
    counts: of what happened.
    rng: draws what happens.
    door: to the account.
    """

    folder: Path
    wire: FaultProxy
    counts: Counter[str]
    rng: random.Random
    door: Door = ALPACA

    def environment(self) -> dict[str, str]:
        """What a process of it finds in its environment."""
        return {
            **self.door.environment,
            "PATH": "",
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.folder),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(self.folder / "cache")),
        }

    def written(self) -> int:
        """Bytes that its processes have logged."""
        return sum(path.stat().st_size for path in (self.folder / "logs").glob("*.log"))

    def last_logged(self, number: int = 20) -> str:
        """The last lines that its processes have logged."""
        paths = sorted((self.folder / "logs").glob("*.log"), key=os.path.getmtime)
        lines = [line for path in paths[-1:] for line in path.read_text().splitlines()]
        return "".join(f"  {line}\n" for line in lines[-number:])

    def leaking_files(self) -> list[Path]:
        """Files with a secret in them; what a run has printed is not among them."""
        secrets = [secret.encode() for secret in self.door.secrets]
        files = [path for path in sorted(self.folder.rglob("*")) if path.is_file()]
        return [path for path in files if any(map(path.read_bytes().__contains__, secrets))]


@contextmanager
def watched(
    folder: Path, url: str, counts: Counter[str], rng: random.Random, seed: int, door: Door = ALPACA
) -> Iterator[Place]:
    """A place behind a wire before a server, until the block ends; what leaked is counted then."""
    with faulty_wire(FaultProxy(url, random.Random(seed))) as wire:
        place = Place(folder, wire, counts, rng, door)
        yield place
        counts["leaks"] += len(place.leaking_files())
        counts.update({f"fault {kind}": number for kind, number in wire.happened.items()})


@dataclass
class FaultRun:
    """One process of a command.

    words: `-m MODULE …` or `SCRIPT …`.
    limits: what the disk has left for it, as `fault_child.py` reads them.
    code: how it ended; none while it runs.
    told: what it had printed then.
    """

    place: Place
    words: Sequence[str]
    limits: Limits = field(default_factory=dict)
    code: int | None = None
    told: str = ""

    def __post_init__(self) -> None:
        # Two processes may run at once, each with a control of its own.
        path = self.place.folder / f"control-{self.place.counts['runs']}"
        self.control = Control(path)
        self._command = Started(
            [str(CHILD), str(path), json.dumps(self.limits), *self.words],
            cwd=self.place.folder,
            env=self.place.environment(),
        )
        self._starved = 0.0
        self._progress: tuple[int, ...] = ()
        self._since = self.clock()
        self.place.counts["runs"] += 1

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._command.running

    def clock(self) -> float:
        """Seconds that pass on this machine while it has a processor, or needs none."""
        self._starved = max(self._starved, starved(self._command.pid))
        return time.monotonic() - self._starved

    def said(self) -> str:
        """What it has printed so far."""
        return self._command.output

    def waits_until(self) -> list[np.datetime64]:
        """The instants of the cycles that it has announced, each once."""
        return [np.datetime64(each, "ns") for each in NEXT_CYCLE.findall(self.said())]

    def silence(self) -> float:
        """Seconds for which it has printed, logged, asked and committed nothing."""
        wire = sum(self.place.wire.heard.values())
        now = (self._command.printed, self.place.written(), wire, self.control.numbers[COMMITS])
        clock = self.clock()
        if now != self._progress:
            self._progress, self._since = now, clock
        silence = max(clock - self._since, 0.0)
        counts = self.place.counts
        counts[LONGEST] = max(counts[LONGEST], round(silence))
        return silence

    def until(self, done: Callable[[], object] = lambda: False, most: float = AT_WORK) -> bool:
        """Wait until something is so, or it has ended; one that hangs is counted and killed.

        most: seconds after which work without an end counts as a hang.

        Returns whether it still runs.
        """
        began, listens = self.clock(), time.monotonic()
        while self.running:
            if done():
                return True
            if time.monotonic() >= listens:
                listens = time.monotonic() + LISTEN
                if self.silence() > PATIENCE or self.clock() - began > most:
                    self.place.counts["hangs"] += 1
                    self._tell_where()
                    self.kill()
                    return False
            self._command.wait_for_end(LOOK)
        return False

    def _tell_where(self) -> None:
        """Print what it has said and where its threads are, before it is killed."""
        self.send(signal.SIGUSR1)
        time.sleep(MOMENT)
        heard = dict(self.place.wire.heard)
        sys.stderr.write(f"{' '.join(self.words)}\n{self.said()}\nheard: {heard}\n")
        sys.stderr.write(self._command.errors)

    def kill(self) -> None:
        """SIGKILL; `end` says what it left."""
        self.send(signal.SIGKILL)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, where it still runs."""
        with suppress(ProcessLookupError):
            os.kill(self._command.pid, number)

    def ended(self) -> int:
        """How it has ended, once it has by itself, or was killed where that was drawn."""
        self.until()
        self.place.wire.trap = None
        return self.end()

    def end(self) -> int:
        """How it has ended, once it has; what it printed is looked at and counted."""
        if self.code is not None:
            return self.code
        done = self._command.wait(PATIENCE)
        counts = self.place.counts
        self.code = done.returncode
        self.told = done.stdout + done.stderr
        # SIGUSR1 ends a process that is still loading and cannot print its threads yet.
        killed = self.code in (-signal.SIGKILL, -signal.SIGUSR1)
        counts["kills" if killed else f"exit {self.code}"] += 1
        crashed = "Traceback" in done.stderr or not (killed or self.code in MEANT)
        counts["crashes"] += crashed
        if crashed:
            sys.stderr.write(self.told)
        counts["leaks"] += any(secret in self.told for secret in self.place.door.secrets)
        return self.code


class FaultRuns:
    """Runs of a command that ends by itself, one after the other.

    words: of the command.
    impatient: how short it waits for answers while the wire may fail.
    """

    impatient: Sequence[str] = ()

    def __init__(self, place: Place, words: Sequence[str]) -> None:
        self.place = place
        self.words = words
        self.rng = place.rng
        self.wire = place.wire
        self.counts = place.counts

    def begun(self, run: FaultRun) -> None:
        """What is done with each of them as it begins."""

    def run(self, *more: str, meanwhile: Callable[[], object] | None = None) -> int:
        """A run that may be killed, and its exit code.

        meanwhile: done while it runs, where it is not killed then.
        """
        limits: Limits = {}
        if self.rng.random() < 0.05:
            limits = self.rng.choice(({"pages": self.rng.randint(0, 2)}, {"bytes": 2**18}))
        run = self.start(*self.impatient, *more, limits=limits)
        if self.rng.random() < KILLED:
            arm_kill(run, self.rng)
        elif meanwhile and self._asks(run):
            meanwhile()
        return run.ended()

    def start(self, *more: str, limits: Limits | None = None) -> FaultRun:
        """A run that has begun."""
        run = FaultRun(self.place, (*self.words, *more), limits or {})
        self.begun(run)
        return run

    def calm_run(self, *more: str) -> int:
        """A run on a wire that works, which nobody kills, and its exit code."""
        self.wire.calm()
        code = self.start(*PATIENT, *more).ended()
        self.counts["stuck"] += code != 0
        return code

    def _asks(self, run: FaultRun) -> bool:
        """Whether it runs at a request of it that is drawn: any of its first, or an order."""
        heard = self.wire.heard
        method = self.rng.choice(("GET", "GET", "POST"))
        number = 1 if method == "POST" else self.rng.randint(1, 15)
        moment = self.rng.uniform(0, MOMENT)
        before = heard[method]
        while run.running and heard[method] < before + number:
            time.sleep(0.001)
        time.sleep(moment)
        return run.running


def starved(pid: int) -> float:
    """Seconds for which a process was ready to go on, and others had the processors."""
    try:
        _, waited, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    except (OSError, ValueError):  # it has ended, or this machine does not say
        return 0.0
    return int(waited) / 1e9


def arm_kill(run: FaultRun, rng: random.Random) -> str:
    """Have a run killed at a request, a commit or a moment that is drawn; returns which."""
    kind = rng.choice(("request", "order", "commit", "commit", "moment"))
    if kind == "commit":
        run.control.arm(rng.randint(1, 45), after=rng.random() < 0.5)
    elif kind == "moment":
        method = rng.choice(("GET", "GET", "POST"))
        number = 1 if method == "POST" else rng.randint(1, 15)
        delay = rng.uniform(0, MOMENT)

        # The process continues meanwhile, so the kill lands at any step.
        timer = threading.Timer(delay, run.kill)
        run.place.wire.trap = Trap(timer.start, method, "", number, "pass")
    else:
        method = "POST" if kind == "order" else ""
        door = run.place.door
        path = door.orders if kind == "order" else door.api
        number = rng.randint(1, 3) if kind == "order" else rng.randint(1, 25)
        when: When = rng.choice(KILLED_WHEN)
        run.place.wire.trap = Trap(run.kill, method, path, number, when)
    return kind
