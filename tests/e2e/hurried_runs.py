"""Commands behind a wire that fails, hurried, and killed at random: what all schedules share."""

from __future__ import annotations

import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.commands import Started
from tests.e2e.fault_proxy import FaultProxy
from tests.e2e.fault_schedules import LONGEST
from tests.e2e.practice import KEYS

PATIENCE = 60.0  # seconds without progress or a reason
KILLED = 0.35  # share of runs
MOMENT = 0.05  # seconds between a request and what happens at it
MEANT = (0, 2)  # exit codes of a command that ended by itself
HURRIED = """
import runpy, sys, time
rest = time.sleep
time.sleep = lambda seconds: rest(min(seconds, 0.02))
sys.argv = sys.argv[1:]
if sys.argv[0] == "-m":
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
else:
    sys.path.insert(0, sys.argv[0].rsplit("/", 1)[0])
    runpy.run_path(sys.argv[0], run_name="__main__")
"""
PATIENT = ("broker.read_timeout=10", "broker.deadline=20", "broker.attempts=4")


@dataclass(frozen=True, slots=True)
class HurriedRuns:
    """Runs of one command in a folder of its own.

    words: of the command, `-m MODULE …` or `SCRIPT …`.
    impatient: how short it waits for answers while the wire may fail.
    wire: between it and the practice server.
    folder: where it runs, and its home.
    rng: draws when it is killed.
    counts: of what happened.
    """

    words: Sequence[str]
    impatient: Sequence[str]
    wire: FaultProxy
    folder: Path
    rng: random.Random
    counts: Counter[str]

    def run(self, *more: str, meanwhile: Callable[[], object] | None = None) -> int:
        """A run that may be killed, and its exit code.

        meanwhile: done while it runs, where it is not killed then.
        """
        if self.rng.random() < KILLED:
            return self._run((*self.impatient, *more), kill=True)
        return self._run((*self.impatient, *more), meanwhile)

    def calm_run(self, *more: str) -> int:
        """A run on a wire that works, which nobody kills, and its exit code."""
        self.wire.calm()
        code = self._run((*PATIENT, *more))
        self.counts["stuck"] += code != 0
        return code

    def _run(
        self,
        more: Sequence[str],
        meanwhile: Callable[[], object] | None = None,
        *,
        kill: bool = False,
    ) -> int:
        script = self.folder / "hurried.py"
        script.write_text(HURRIED)
        command = Started(
            [str(script), *self.words, *more], cwd=self.folder, env=self._environment()
        )
        self.counts["runs"] += 1
        if (kill or meanwhile) and self._asks(command):
            if kill:
                # `Started.kill` would throw away what it has printed.
                command._child.kill()
            elif meanwhile:
                meanwhile()
        silence = self._longest_silence(command)
        self.counts["standstills"] += silence > PATIENCE
        self.counts[LONGEST] = max(self.counts[LONGEST], round(silence))
        try:
            done = command.wait(PATIENCE)
        except TimeoutError:
            return -1
        killed = kill and done.returncode < 0
        self.counts["kills" if killed else f"exit {done.returncode}"] += 1
        fault = "Traceback" in done.stderr or not (killed or done.returncode in MEANT)
        self.counts["tracebacks"] += fault
        if fault:
            sys.stderr.write(done.stderr)
        self._look_for_keys(done.stdout + done.stderr)
        return done.returncode

    def _longest_silence(self, command: Started) -> float:
        """Seconds for which it printed and logged nothing, until it ends or is past patience."""
        longest = 0.0
        size = -1
        while command.running and longest <= PATIENCE:
            logs = (path.stat().st_size for path in (self.folder / "logs").glob("*.log"))
            told = command.printed + sum(logs)
            if told != size:
                size, since = told, time.monotonic()
            longest = max(longest, time.monotonic() - since)
            time.sleep(0.05)
        return longest

    def _environment(self) -> dict[str, str]:
        return {
            "APCA_API_KEY_ID": KEYS.key,
            "APCA_API_SECRET_KEY": KEYS.secret,
            "PATH": "",
            "HOME": str(self.folder),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(self.folder / "cache")),
        }

    def _asks(self, command: Started) -> bool:
        """Whether it runs at a request of it that is drawn: any of its first, or an order."""
        method = self.rng.choice(("GET", "GET", "POST"))
        number = 1 if method == "POST" else self.rng.randint(1, 15)
        moment = self.rng.uniform(0, MOMENT)
        before = self.wire.heard[method]
        while command.running and self.wire.heard[method] < before + number:
            time.sleep(0.001)
        time.sleep(moment)
        return command.running

    def _look_for_keys(self, text: str) -> None:
        logs = [path.read_text() for path in (self.folder / "logs").glob("*.log")]
        self.counts["leaked_keys"] += any(KEYS.secret in each for each in (text, *logs))
