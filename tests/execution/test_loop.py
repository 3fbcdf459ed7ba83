"""Jobs are stepped when they are due, one that fails holds up no other, and a stop is heard."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from execution.live.loop import JobLoop, StopSignal, stop_on_signals
from foundation.errors import BrokerError, InputError
from foundation.notifier import Notifier
from foundation.signals import TerminatedBySignal


def told_within_its_wait(moment: int) -> tuple[StopSignal, bool]:
    """A stop that is told at one of the lines that its own wait runs, as by a signal's handler.

    The second answer: whether there was such a line.
    """
    stop = StopSignal()
    lines = itertools.count()
    done = threading.Event()

    def tell(frame: object, event: str, what: object) -> object:
        if next(lines) == moment:
            stop.request_stop("SIGTERM")
        return tell

    def wait() -> None:
        sys.settrace(tell)  # type: ignore[arg-type]
        stop.wait(0.02)
        sys.settrace(None)
        done.set()

    threading.Thread(target=wait, daemon=True).start()
    assert done.wait(5.0), f"at line {moment} of its wait it was told, and never came back"
    return stop, next(lines) > moment


def test_stop_signal_handler_never_deadlocks_during_wait() -> None:
    """A signal handler runs in the waiting thread: a lock held by that thread would never be
    released.
    """
    for moment in range(1000):
        stop, there = told_within_its_wait(moment)
        if not there:
            break
        assert stop
        assert stop.wait(0.0)
    assert 3 < moment < 999


def test_stop_signal_ends_every_current_and_later_wait() -> None:
    stop = StopSignal()

    def wait() -> None:
        for _ in range(3):
            stop.wait(60.0)

    waiting = [threading.Thread(target=wait, daemon=True) for _ in range(2)]
    for each in waiting:
        each.start()
    stop.request_stop("told")
    stop.request_stop("a second time")
    for each in waiting:
        each.join(10.0)
        assert not each.is_alive()
    assert stop.why == "told"


START = np.datetime64("2024-03-05T15:00", "ns")
MINUTE = np.timedelta64(1, "m")
LONGEST = np.timedelta64(5, "s")  # between two signs of life


class Clock:
    """A venue's clock that goes on by what is waited."""

    def __init__(self, stop: StopSignal) -> None:
        self.at = START
        self.stop = stop
        self.has_answered: Callable[[], bool] = lambda: True

    def now(self) -> np.datetime64:
        return self.at

    def is_responding(self) -> bool:
        return self.has_answered()

    def wait(self, seconds: float) -> bool:
        self.at = self.at + np.timedelta64(round(seconds * 1e9), "ns")
        return bool(self.stop)


@dataclass
class Every:
    """A job that is due every so many minutes, so many times; what it does is told."""

    name: str
    minutes: int
    times: int
    clock: Clock
    act: Callable[[int], None] = lambda number: None
    begin: np.datetime64 = START
    stepped: list[np.datetime64] = field(default_factory=list)

    def next_step_time(self, now: np.datetime64) -> np.datetime64 | None:
        count = len(self.stepped)
        return self.begin + count * self.minutes * MINUTE if count < self.times else None

    def step(self) -> None:
        self.stepped.append(self.clock.at)
        self.act(len(self.stepped))


@pytest.fixture
def stop() -> StopSignal:
    return StopSignal()


@pytest.fixture
def clock(stop: StopSignal, monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(stop)
    monkeypatch.setattr(stop, "wait", clock.wait)
    return clock


Told = list[tuple[str, np.datetime64 | None]]


@dataclass
class Seen:
    """An observer that hands on what it is shown."""

    see: Callable[..., None] = lambda *_: None
    expected: Callable[..., None] = lambda *_: None

    def on_next_step(self, job: str, due: np.datetime64, now: np.datetime64) -> None:
        self.expected(job, due, now)

    def on_wait(self, job: str, due: np.datetime64) -> None:
        self.see(job, due)

    def on_step_end(self, job: str, outcome: object, *, failed: bool) -> None:
        assert outcome is None
        self.see(job, None)


def run(
    *jobs: Every, stop: StopSignal, is_answering: Callable[[], bool] = lambda: True, **seen: Any
) -> None:
    clock = jobs[0].clock
    clock.has_answered = is_answering
    JobLoop(jobs, clock, stop, Notifier(None, None), Seen(**seen), 3).run()


def test_jobs_step_when_due_and_the_heartbeat_continues(clock: Clock, stop: StopSignal) -> None:
    hourly, often = Every("a", 60, 3, clock), Every("b", 20, 7, clock)
    told: Told = []
    alive: list[np.datetime64] = []

    def see(*words: Any) -> None:
        told.append(words)
        alive.append(clock.at)

    run(hourly, often, stop=stop, see=see)
    for job in (hourly, often):
        late = [at - START - k * job.minutes * MINUTE for k, at in enumerate(job.stepped)]
        assert all(np.timedelta64(0) <= each < np.timedelta64(1, "s") for each in late)
    assert {("a", START + 60 * MINUTE), ("a", None)} <= {*told}
    assert max(np.diff(np.array(alive))) <= LONGEST


def test_next_step_is_announced_before_it_is_awaited(clock: Clock, stop: StopSignal) -> None:
    told: list[tuple[str, np.datetime64, np.datetime64, int]] = []
    job = Every("a", 60, 3, clock)

    def expect(name: str, due: np.datetime64, now: np.datetime64) -> None:
        told.append((name, due, now, len(job.stepped)))

    run(job, stop=stop, expected=expect)
    assert [(name, due, made) for name, due, _, made in told] == [
        ("a", START + hours * 60 * MINUTE, hours) for hours in range(3)
    ]
    assert all(now <= due for _, due, now, _ in told)


@pytest.mark.parametrize(
    ("error", "times", "steps"),
    [
        (BrokerError("no answer"), 9, 6),  # two, one that succeeds, and three in a row
        (BrokerError("no answer"), 1, 1),  # the last step's error is reported
        (InputError("the journal cannot be used"), 9, 1),  # a fault of the program
    ],
)
def test_loop_ends_only_after_repeated_failed_steps(
    error: Exception,
    times: int,
    steps: int,
    clock: Clock,
    stop: StopSignal,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(number: int) -> None:
        if number != 3:
            raise error

    job, other = Every("a", 60, times, clock, fail), Every("b", 60, 9, clock)
    with pytest.raises(type(error), match=str(error)):
        run(job, other, stop=stop)
    assert len(job.stepped) == steps
    over = 4 if steps == 6 else 0  # all but the last
    assert capsys.readouterr().err == over * "cycle failed: no answer; retrying at the next cycle\n"
    assert len(other.stepped) in (steps - 1, steps)


def test_loop_stops_after_current_step_or_while_waiting(
    clock: Clock, stop: StopSignal, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Every(
        "a", 60, 9, clock, lambda number: stop.request_stop("told") if number == 2 else None
    )
    run(job, stop=stop)
    assert len(job.stepped) == 2
    assert stop.why == "told"
    late = Every("b", 60, 9, clock, begin=clock.at + 600 * MINUTE)
    for told_before in (True, False):
        waiting, begin = StopSignal(), clock.at

        def wait(seconds: float, waiting: StopSignal = waiting) -> bool:
            waiting.why = "told"
            return clock.wait(seconds)

        monkeypatch.setattr(waiting, "wait", wait)
        if told_before:
            waiting.request_stop("before")
        run(late, stop=waiting)
        assert not late.stepped
        assert clock.at - begin <= LONGEST


def test_first_signal_stops_the_loop_second_terminates_it(stop: StopSignal) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals(stop):
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(1.0)
        assert stop.why == "SIGTERM"
        with pytest.raises(TerminatedBySignal, match="SIGINT"):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("speed", [1.0, 60.0, 3600.0])
def test_loop_sleeps_shorter_under_a_fast_clock(
    clock: Clock, stop: StopSignal, monkeypatch: pytest.MonkeyPatch, speed: float
) -> None:
    monkeypatch.setattr(stop, "wait", lambda seconds: clock.wait(seconds * speed))
    job = Every("a", 60, 5, clock)
    run(job, stop=stop)
    late = [at - START - k * 60 * MINUTE for k, at in enumerate(job.stepped)]
    assert max(late) <= np.timedelta64(round(0.06 * speed * 1000), "ms")


def test_jobs_due_at_the_same_time_alternate(clock: Clock, stop: StopSignal) -> None:
    """This occurs on a practice server whose clock stands still."""
    turns: list[str] = []
    jobs = [Every(name, 0, 3, clock, lambda _, name=name: turns.append(name)) for name in "ab"]
    run(*jobs, stop=stop)
    assert turns == ["a", "b"] * 3


def test_unresponsive_venue_postpones_due_steps_and_alerts(
    clock: Clock, stop: StopSignal, caplog: pytest.LogCaptureFixture
) -> None:
    """Each outage is alerted, except one that ends before the second health check."""
    job = Every("a", 60, 4, clock)
    away = [(START + hours * 60 * MINUTE, 15 * MINUTE) for hours in (1, 2)]
    away.append((START + 180 * MINUTE, LONGEST // 5))
    alive: list[np.datetime64] = []

    def is_answering() -> bool:
        return not any(due - MINUTE <= clock.at < due + lasts for due, lasts in away)

    run(job, stop=stop, see=lambda *_: alive.append(clock.at), is_answering=is_answering)
    first, *others = job.stepped
    assert caplog.text.count("ALERT waiting a: a is due but the venue does not respond") == 2
    assert first == START
    for (due, lasts), stepped in zip(away, others, strict=True):
        assert due + lasts <= stepped <= due + lasts + LONGEST
    assert max(np.diff(np.array(alive))) <= LONGEST


def test_loop_waiting_for_the_venue_can_be_stopped(clock: Clock, stop: StopSignal) -> None:
    job = Every("a", 60, 2, clock)
    waits = itertools.count(1)

    def see(*_: object) -> None:
        if next(waits) == 20:
            stop.request_stop("SIGTERM")

    run(job, stop=stop, see=see, is_answering=lambda: False)
    assert job.stepped == []
    assert next(waits) == 21
