"""Event loop that runs each job's steps on the job's schedule, one at a time, until stopped.

After a failed step the loop continues with the next one. After a set number of consecutive failed
steps of one job it requests a stop and ends with an error. While it waits, it sends heartbeats, and
a stop signal ends the wait at once.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Protocol

import numpy as np

from foundation.console import tolerate_print_errors
from foundation.errors import BrokerError, DataError
from foundation.formatting import format_count
from foundation.notifier import Notifier
from foundation.signals import TerminatedBySignal, handle_signals

log = logging.getLogger(__name__)

MAX_WAIT_SECONDS = 5.0  # longest wait between two heartbeats
MIN_WAIT_SECONDS = 0.05
VENUE_RETRY_SECONDS = 15.0  # seconds between two attempts to reach a venue at the start
MAX_CLOCK_SPEEDUP = 100_000.0  # largest speed of a practice server's clock, relative to ours
SECOND = np.timedelta64(1, "s")


class Job(Protocol):
    """A job whose steps the event loop runs on the job's own schedule.

    The methods raise `BrokerError` or `DataError` if the venue or the data cannot be used.
    """

    @property
    def name(self) -> str: ...

    def next_step_time(self, now: np.datetime64) -> np.datetime64 | None:
        """Return the time of the job's next step; None if no step follows.

        If that time is not after `now`, the step is due at once.
        """
        ...

    def step(self) -> object:
        """Run one step, and return its result for the loop's observer."""
        ...

    def finish(self, *, flatten: bool) -> list[str]:
        """Cancel open orders before the loop ends; close positions too if `flatten` is true.

        Returns a description of each position that should have been closed and is still open.
        """
        ...


class LoopClock(Protocol):
    """Interface of the venue's clock, by which a loop schedules its jobs."""

    def now(self) -> np.datetime64: ...

    def is_responding(self) -> bool:
        """Return whether the venue responded when its clock was last read.

        While the venue does not respond, no step is run.
        """
        ...


class LoopObserver(Protocol):
    """Interface of an observer that a loop notifies of its progress."""

    def on_next_step(self, job: str, due: np.datetime64, now: np.datetime64) -> None:
        """Record the next step, before the loop waits for it.

        job: name of the job.
        due: time of the step.
        now: present time by the loop's clock.
        """
        ...

    def on_wait(self, job: str, due: np.datetime64) -> None:
        """Send heartbeats while the loop waits for the next step."""
        ...

    def on_step_end(self, job: str, outcome: object, *, failed: bool) -> None:
        """Record that a step has ended.

        outcome: result of the step; None for a failed one.
        failed: true if an error has ended the step.
        """
        ...


class StopSignal:
    """A request to stop the loop, with its reason.

    A signal handler may set it at any moment, even during `wait` in the same thread. It therefore
    uses no lock, unlike `threading.Event`, because the interrupted thread may hold that lock.
    """

    def __init__(self) -> None:
        self._told: SimpleQueue[None] = SimpleQueue()
        self.why = ""
        self.flattening = False  # true if all positions are to be closed before the loop ends

    def __bool__(self) -> bool:
        return bool(self.why)

    def request_stop(self, why: str) -> None:
        """Request that the loop stops once the order that is being sent is done.

        why: reason in a few words.
        """
        self.why = self.why or why
        self._told.put(None)

    def wait(self, seconds: float) -> bool:
        """Wait for some seconds or until a stop is requested; return whether one was requested."""
        with suppress(Empty):
            self._told.get(timeout=seconds)
            # Put back to wake other waiting threads and later waits.
            self._told.put(None)
        return bool(self)


@contextmanager
def stop_on_signals(stop: StopSignal) -> Iterator[None]:
    """Turn the first termination signal into a stop request, during a `with` block.

    A second signal ends the process at once. A signal that the process was started to ignore, as by
    nohup, stays ignored.
    """

    def handle_signal(number: int, _: object) -> None:
        if stop:
            raise TerminatedBySignal(signal.Signals(number))
        stop.request_stop(signal.Signals(number).name)

    with handle_signals((signal.SIGTERM, signal.SIGHUP, signal.SIGINT), handle_signal):
        yield


class JobLoop:
    """Event loop that runs the steps of jobs when they are due.

    jobs: jobs of the loop.
    clock: the venue's clock.
    stop: signal that stops the loop.
    notices: sender of alerts about failed steps.
    observer: observer that is notified of the loop's progress.
    max_failed_cycles: number of consecutive failed steps of one job after which the loop ends.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        clock: LoopClock,
        stop: StopSignal,
        notices: Notifier,
        observer: LoopObserver,
        max_failed_cycles: int,
    ) -> None:
        self._jobs = jobs
        self._clock = clock
        self._stop = stop
        self._notices = notices
        self._observer = observer
        self._halt_after = max_failed_cycles
        # Speed of the venue's clock relative to ours, by the last wait; the first wait is short.
        self._rate = MAX_CLOCK_SPEEDUP
        self._failures = dict.fromkeys((job.name for job in jobs), 0)

    def run(self) -> None:
        """Run the steps of the jobs until no job has a next step, or a stop is requested."""
        last: Job | None = None
        while not self._stop:
            now = self._clock.now()
            dues = [
                (due, job) for job in self._jobs if (due := job.next_step_time(now)) is not None
            ]
            if not dues:
                return
            # While a practice server's clock stands still, a job that is due at once stays due.
            due, job = min(dues, key=lambda each: (each[0], each[1] is last))
            self._observer.on_next_step(job.name, due, now)
            if self._wait_until(due, now, job.name):
                last = job
                self._step_job(job)

    def _wait_until(self, due: np.datetime64, now: np.datetime64, job: str) -> bool:
        """Wait until `due`, and return true once that time has come.

        Returns false if the loop was stopped, or if the clock was set back, so that the next step
        has to be determined again.

        due: time of the next step.
        now: clock time at which `due` was determined. If the step was already due at `now`, it
            stays due, whatever the clock shows later.
        job: name of the job.
        """
        # A clock that runs faster than ours, as that of a practice server may, would pass the
        # instant during one long wait. Half of the rest at a time comes close without that.
        while (rest := float((due - now) / SECOND)) > 0:
            self._observer.on_wait(job, due)
            seconds = min(max(rest / 2 / self._rate, MIN_WAIT_SECONDS), MAX_WAIT_SECONDS)
            if self._stop.wait(seconds):
                return False
            before, now = now, self._clock.now()
            if now < before:
                return False
            self._rate = max(float((now - before) / SECOND) / seconds, 1.0)
        return self._wait_for_venue(due, job)

    def _wait_for_venue(self, due: np.datetime64, job: str) -> bool:
        """Wait until the venue responds; return false if a stop is requested first."""
        kind = f"waiting {job}"
        seconds = MIN_WAIT_SECONDS
        while not (self._stop or self._clock.is_responding()):
            if seconds >= MAX_WAIT_SECONDS:
                self._notices.alert(kind, f"{job} is due but the venue does not respond; retrying")
            self._observer.on_wait(job, due)
            self._stop.wait(seconds)
            seconds = min(2 * seconds, MAX_WAIT_SECONDS)
            self._clock.now()
        self._notices.reset_alert(kind)
        return not self._stop

    def _step_job(self, job: Job) -> None:
        kind = f"failing {job.name}"
        outcome: object = None
        try:
            outcome = job.step()
        except (BrokerError, DataError) as error:
            self._failures[job.name] += 1
            count = self._failures[job.name]
            log.error("%s: cycle failed: %s", job.name, error)
            self._notices.alert(kind, f"{job.name}: failed cycle {count} in a row: {error}")
            if count >= self._halt_after:
                self._stop.request_stop(
                    f"{job.name}: {format_count(count, 'failed cycle')} in a row"
                )
                raise
            if job.next_step_time(self._clock.now()) is None:
                raise
            with tolerate_print_errors():
                sys.stderr.write(f"cycle failed: {error}; retrying at the next cycle\n")
        else:
            self._failures[job.name] = 0
            self._notices.reset_alert(kind)
        self._observer.on_step_end(job.name, outcome, failed=self._failures[job.name] > 0)


def print_line(line: str) -> None:
    with tolerate_print_errors():
        sys.stdout.write(f"{line}\n")


def print_warning(line: str) -> None:
    """Log a line, and print it on standard error."""
    logging.getLogger("live").warning(line)
    with tolerate_print_errors():
        sys.stderr.write(f"{line}\n")
