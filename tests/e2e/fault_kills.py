"""A week that is replayed undisturbed, and then with kills spread over it: both must be the same.

A kill is SIGKILL at a request (before the venue hears of it, while it is on its way, after it was
done), before or after a commit to the journal, or at any moment. After a kill the command is
started again at the same instant.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.e2e.fault_checks import ordered
from tests.e2e.fault_runs import PATIENT, FaultRun, arm_kill
from tests.e2e.selling_schedule import SellingSchedule, Tickets, selling
from tests.e2e.trading_schedule import HOURLY, Course, Trading, trading

WEEK = 35  # instants of spreads
LEAST = 6  # instants

Outcome = Mapping[str, Any]
Replay = Callable[[list[int], int, Path, Counter[str], Course], Outcome]


def kills(job: str, number: int, seed: int, folder: Path, course: Course = HOURLY) -> Counter[str]:
    """What came of a replay with so many kills, beside one without any.

    Of a small number only a part of the week is replayed.
    """
    counts: Counter[str] = Counter()
    instants = min(WEEK if job == "spreads" else course.instants, max(LEAST, number))
    rng = random.Random(seed)
    planned = Counter(rng.choices(range(instants), k=number))
    outcomes = []
    for name, plan in (("undisturbed", Counter[int]()), ("killed", planned)):
        place = folder / name
        place.mkdir()
        one = Counter[str]()
        numbers = [plan[k] for k in range(instants)]
        outcomes.append(REPLAYS[job](numbers, seed, place, one, course))
        # How the undisturbed replay ends is a kill as well, and none of those that were asked for.
        one["kills"] = one.pop("landed kills", 0)
        counts.update(one)
    counts["instants"] = instants
    for difference in differing(*outcomes):
        counts["differing_fills"] += 1
        sys.stderr.write(f"{job} seed {seed}: {difference}\n")
    return counts


def differing(one: Outcome, other: Outcome) -> list[str]:
    """What is not the same in two outcomes: cash, positions, the fills of each order."""
    return [
        f"{key}: {one.get(key)} and {other.get(key)}"
        for key in sorted({*one, *other})
        if one.get(key) != other.get(key)
    ]


def trading_replay(
    plan: list[int], seed: int, folder: Path, counts: Counter[str], course: Course
) -> Outcome:
    """What the venue has of stocks and coins after some instants; plan: kills at each of them."""
    begin, until = course.begin, course.until
    with trading(folder, seed, counts, begin, until, course, plain=True) as one:
        for number in plan:
            one.here.advance()
            for _ in range(number):
                kill_once(one)
                counts["landed kills"] += 1
                if one.rng.random() < 0.5:
                    one.wire.land()
            counts["stuck"] += not one.work()
            one.wire.land()
        one.gone()
        one.look()
        return trading_outcome(one)


def kill_once(one: Trading) -> None:
    """Let the process work until it is killed where it was drawn, or at the latest when it waits.

    One that has worked at this instant before has little left to do at it.
    """
    arm_kill(one.alive(), one.rng)
    one.work()
    one.gone()


def trading_outcome(one: Trading) -> Outcome:
    """Cash, positions, and the fills of every order that the venue took."""
    venue = one.here.venue
    account = venue.broker.account()
    return {
        "cash": round(account.cash, 2),
        **{symbol: quantity for symbol, quantity in account.positions.items() if quantity},
        **{name: ordered(ticket).fills for name, ticket in venue.tickets.items()},
    }


def selling_replay(
    plan: list[int], seed: int, folder: Path, counts: Counter[str], course: Course
) -> Outcome:
    """What the venue has of spreads after some instants; plan: kills at each of them."""
    del course
    with selling(folder, seed, counts) as going:
        for number in plan:
            landed = 0
            while landed < number:
                run = FaultRun(going.place, (*going.words, *PATIENT, "looks=3"))
                arm_kill(run, going.place.rng)
                landed += finished(run) < 0
                if going.place.rng.random() < 0.5:
                    going.place.wire.land()
            counts["landed kills"] += landed
            code = finished(FaultRun(going.place, (*going.words, *PATIENT, "looks=3")))
            counts["stuck"] += code != 0
            going.place.wire.land()
            going.here.advance()
        going.end()
        return selling_outcome(going)


def finished(run: FaultRun) -> int:
    """How a run has ended, once it has."""
    run.until(lambda: False)
    run.place.wire.trap = None
    return run.end()


def selling_outcome(going: SellingSchedule) -> Outcome:
    """Cash, options held, and the fills of every order that the venue took, and what was booked."""
    tickets: Tickets = going.desk.tickets
    return {
        "cash": round(going.here.venue.broker.account().cash, 2),
        **{f"booked {row['Trade_ID']}": row for row in going.booked()},
        **{str(contract): number for contract, number in going.desk.held().items()},
        **{name: (ticket.filled, ticket.fill.credit) for name, ticket in tickets.items()},
    }


REPLAYS: Mapping[str, Replay] = {"trade": trading_replay, "spreads": selling_replay}
