"""Whatever the wire does and whenever a command is killed: nothing twice, nothing lost.

And what counts that is seen to count: a check that cannot fail is none.
"""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from execution.alpaca.broker import ADOPTION_REASON
from execution.journal.order_store import OrderProgress
from foundation.database import query_rows
from tests.e2e import fault_checks, fault_runs
from tests.e2e.fault_checks import Sent, World, differently_filled, lost_either_way
from tests.e2e.fault_kinds import KINDS
from tests.e2e.fault_proxy import FaultProxy
from tests.e2e.fault_runs import FaultRun, Place
from tests.e2e.fault_stops import unjustified
from tests.e2e.faults import NEVER, differing, kills, schedule
from tests.e2e.practice import KEYS, environment
from tests.e2e.refused import answer_of
from tests.e2e.trading_schedule import going


def never(counts: Counter[str]) -> dict[str, int]:
    """What must never be, and was."""
    return {name: counts[name] for name in NEVER if counts[name]}


@pytest.mark.parametrize(
    ("job", "seed", "steps", "more"),
    [
        pytest.param("trade", 3, 3, {"kinds": ("kill",)}, marks=pytest.mark.slow),
        *(
            pytest.param("trade", seed, 3, {"kinds": kinds}, marks=pytest.mark.long)
            for seed, kinds in enumerate(zip(*[iter(KINDS)] * 2, strict=True))
        ),
        pytest.param("spreads", 34, 3, {}, marks=pytest.mark.slow),
        pytest.param("spreads", 17, 11, {}, marks=pytest.mark.long),
        pytest.param("kalshi", 1, 3, {}, marks=pytest.mark.slow),
        pytest.param("kalshi", 0, 3, {}, marks=pytest.mark.long),
        pytest.param("two", 0, 3, {}, marks=pytest.mark.long),
    ],
)
def test_every_order_is_booked_once_under_any_fault(
    tmp_path: Path, job: str, seed: int, steps: int, more: dict[str, Any]
) -> None:
    counts = schedule(job, seed, steps, tmp_path, **more)
    assert never(counts) == {}, counts
    assert counts["runs"] > 1
    assert counts["orders"] > 0 or job in ("trade", "two")


@pytest.mark.long
@pytest.mark.parametrize("job", ["trade", "spreads"])
def test_week_with_process_kills_ends_like_uninterrupted_one(tmp_path: Path, job: str) -> None:
    counts = kills(job, 12, 5, tmp_path)
    assert never(counts) == {}, counts
    assert counts["kills"] == 12
    assert counts["orders"] > 12


@pytest.fixture(scope="module")
def traded(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Three instants to which nothing happened."""
    folder = tmp_path_factory.mktemp("traded")
    undisturbed = going(folder, 0, Counter(), plain=True, guarded=False)
    with undisturbed as one, pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        for name, value in environment(folder).items():
            patch.setenv(name, value)
        # The last cycle, a second one of its instant, lists what the one before has filled.
        for k in range(4):
            if k < 3:
                one.here.advance()
            code, _, said = answer_of("trade_stock_e2e", *one.words[1:], "cycles=1", cwd=folder)
            assert code == 0, said
        return one.world()


@pytest.fixture
def world(traded: World) -> World:
    """A world that may be damaged."""
    return copy.deepcopy(traded)


def an_opening(world: World) -> tuple[int, Sent]:
    """An order as it left, and where it is among them."""
    parts = [world.books.written[sent.name].role for sent in world.sent]
    return parts.index("opening"), world.sent[parts.index("opening")]


def filled_name(world: World) -> str:
    """An order that has filled."""
    return next(order.name for order in world.ours() if order.fills)


def known_as(world: World, name: str, like: str, **changes: Any) -> None:
    """Have the book know an order of this id, like another one."""
    written = world.books.written[like]
    order = replace(written.stock_or_crypto_order, client_order_id=name)
    world.books.written[name] = replace(written, order=order, **changes)


def an_order_like_it(end: str) -> Callable[[World], None]:
    """Another order like one that has filled, on both sides, whose id has another end."""

    def damage(world: World) -> None:
        order = world.orders[filled_name(world)]
        name = order.name.rsplit("-", end.count("-"))[0] + end
        world.orders[name] = replace(order, name=name)
        known_as(world, name, order.name)

    return damage


def not_in_the_book(world: World) -> None:
    name = next(order.name for order in world.ours())
    world.sent = []
    del world.books.written[name]


def given_up(world: World) -> None:
    name = next(order.name for order in world.ours())
    written = world.books.written[name]
    world.books.written[name] = replace(
        written, state="not_received", progress=OrderProgress("accepted")
    )


def never_at_the_venue(world: World) -> None:
    del world.orders[filled_name(world)]


def fill_not_listed(world: World) -> None:
    del world.books.fills[world.orders[filled_name(world)].number]


def fill_a_cent_off(world: World) -> None:
    number = world.orders[filled_name(world)].number
    cent = Decimal("0.01")
    world.books.fills[number] = [(q, p + cent) for q, p in world.books.fills[number]]


def sent_as(changes: Callable[[World, Sent], dict[str, Any]]) -> Callable[[World], None]:
    """An opening that left in another way."""

    def damage(world: World) -> None:
        place, sent = an_opening(world)
        world.sent[place] = replace(sent, **changes(world, sent))

    return damage


def beyond_the_cap(_: World, sent: Sent) -> dict[str, Any]:
    return {"signed": Decimal(round(0.66 * sent.equity / sent.prices[sent.symbol]))}


def at_its_expiry(world: World, sent: Sent) -> dict[str, Any]:
    return {"at": world.books.written[sent.name].order.expires_at}


def beyond_the_gross_ceiling(_: World, sent: Sent) -> dict[str, Any]:
    other = next(symbol for symbol in sent.prices if symbol != sent.symbol)
    return {"positions": {other: Decimal(round(4.06 * sent.equity / sent.prices[other]))}}


def a_coin_beyond_cash(_: World, sent: Sent) -> dict[str, Any]:
    signed = Decimal(round(0.3 * sent.equity / 100))
    prices = {**sent.prices, "SYXUSD": 100.0}
    return {"symbol": "SYXUSD", "signed": signed, "prices": prices, "positions": {}, "cash": 0.0}


def sent_before_its_reductions_filled(world: World) -> None:
    _, sent = an_opening(world)
    name = f"{world.strategy}-20240220T000000Z-SYA-0-0"
    later = OrderProgress("filled", filled=Decimal(1))
    known_as(world, name, sent.name, role="reduction", state="planned", progress=later)


def a_symbol_that_is_not_ours(world: World) -> None:
    world.symbols -= {an_opening(world)[1].symbol}


def a_persons_order_cancelled(world: World) -> None:
    order = replace(next(iter(world.orders.values())), name="by-hand-0", status="canceled")
    world.orders["by-hand-0"] = order


def halted(kind: str, *more: tuple[str, str]) -> Callable[[World], None]:
    """A halt before everything else."""

    def damage(world: World) -> None:
        world.books.events[:0] = [("halted", kind), *more]

    return damage


def adopted(world: World) -> None:
    """Every order rested at the venue when the journal began, under a halt."""
    halted("journal")(world)
    for name, written in world.books.written.items():
        order = replace(written.stock_or_crypto_order, reason=ADOPTION_REASON)
        world.books.written[name] = replace(written, order=order)


DAMAGES = {
    "another attempt": (an_order_like_it("-1"), "duplicates"),
    "another leg, beyond the decision": (an_order_like_it("-7-0"), "duplicates"),
    "not in the book": (not_in_the_book, "lost"),
    "given up": (given_up, "lost"),
    "never at the venue": (never_at_the_venue, "lost"),
    "a fill not listed": (fill_not_listed, "lost"),
    "a fill a cent off": (fill_a_cent_off, "differing_fills"),
    "beyond the cap": (sent_as(beyond_the_cap), "breaches"),
    "beyond the gross ceiling": (sent_as(beyond_the_gross_ceiling), "breaches"),
    "a coin beyond cash": (sent_as(a_coin_beyond_cash), "breaches"),
    "under the kill file": (sent_as(lambda *_: {"killed": True}), "breaches"),
    "at its expiry": (sent_as(at_its_expiry), "breaches"),
    "before its reductions filled": (sent_before_its_reductions_filled, "breaches"),
    "a symbol that is not ours": (a_symbol_that_is_not_ours, "breaches"),
    "a person's order cancelled": (a_persons_order_cancelled, "breaches"),
    "under a halt": (halted("positions"), "breaches"),
    "opened under a loss": (halted("daily_loss"), "breaches"),
    "adopted under a halt": (adopted, ""),
    "after a halt": (halted("positions", ("halt ended", "positions")), ""),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_fault_checks_detect_every_forbidden_trading_outcome(world: World, name: str) -> None:
    damage, counted = DAMAGES[name]
    assert len(world.ours()) > 1
    assert not +world.counts(), fault_checks.breaches(world)
    damage(world)
    assert " ".join(+world.counts()) == counted


def test_fault_checks_count_orders_missing_from_either_record(world: World) -> None:
    book = world.books.written
    filled = {name: intent.progress.filled for name, intent in book.items()}
    there = [name for name, intent in book.items() if intent.was_accepted]
    assert lost_either_way(there, book) == differently_filled(filled, book) == 0
    assert lost_either_way([*there[1:], "another"], book) == 2
    assert differently_filled({**filled, there[0]: Decimal(10**6)}, book) == 1


def test_order_missing_from_damaged_journal_is_not_lost(world: World) -> None:
    name = filled_name(world)
    not_in_the_book(world)
    fill_not_listed(world)
    world.forgotten = frozenset(world.orders)
    assert name in world.orders
    assert not world.counts()["lost"]


def test_outcome_comparison_detects_any_cash_or_order_difference() -> None:
    one = {"cash": 10.0, "SYA": Decimal(3), "o-1": [(Decimal(3), Decimal("1.50"))]}
    assert differing(one, dict(one)) == []
    assert len(differing(one, {**one, "cash": 10.01})) == 1
    assert len(differing(one, {**one, "SYA": Decimal(4)})) == 1
    assert len(differing(one, {**one, "o-1": [(Decimal(3), Decimal("1.51"))]})) == 1
    assert len(differing(one, {"cash": 10.0, "SYA": Decimal(3)})) == 1


@pytest.fixture
def place(tmp_path: Path) -> Place:
    wire = FaultProxy("http://127.0.0.1:9", random.Random(0))
    return Place(tmp_path, wire, Counter(), random.Random(0))


def program(place: Place, text: str) -> FaultRun:
    """A process of a program."""
    path = place.folder / "program.py"
    path.write_text(text)
    return FaultRun(place, [str(path)])


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("text", "counted", "patience", "most"),
    [
        ("raise KeyError('spread')", {"crashes"}, 60.0, 60.0),
        ("import os; os._exit(7)", {"crashes"}, 60.0, 60.0),
        (f"import sys; sys.stderr.write('{KEYS.key}')", {"leaks"}, 60.0, 60.0),
        ("import threading; threading.Event().wait(60)", {"hangs"}, 0.5, 60.0),
        ("while True: print('busy')", {"hangs"}, 60.0, 0.5),
    ],
)
def test_fault_checks_detect_crashes_hangs_and_leaked_secrets(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    counted: set[str],
    patience: float,
    most: float,
) -> None:
    # The libraries' imports are silent, too.
    monkeypatch.setattr(fault_runs, "PATIENCE", patience + 3.0)
    one = program(place, text)
    one.until(most=most + 3.0)
    monkeypatch.setattr(fault_runs, "PATIENCE", 60.0)
    one.end()
    assert {"crashes", "leaks", "hangs"} & set(+place.counts) == counted


def test_secret_scan_finds_keys_in_any_file(place: Place) -> None:
    (place.folder / "logs").mkdir()
    (place.folder / "logs" / "a.log").write_text(f"key {KEYS.secret}")
    (place.folder / "state.sqlite").write_bytes(b"\0\1" + KEYS.key.encode())
    (place.folder / "clean").write_text("nothing")
    assert [path.name for path in place.leaking_files()] == ["a.log", "state.sqlite"]


COMMITS = """
from pathlib import Path
from foundation.database import Database
database = Database(Path("journal.sqlite"))
database.execute_all("CREATE TABLE rows (number INTEGER)")
for number in range(300):
    database.execute("INSERT INTO rows VALUES (?)", (number,))
"""


@pytest.mark.first_example
@pytest.mark.parametrize(("after", "rows"), [(False, 2), (True, 3)])
def test_injected_kill_lands_before_or_after_chosen_commit(
    place: Place, *, after: bool, rows: int
) -> None:
    one = program(place, COMMITS)
    # The first commit is the table's, so the fourth is the third row's.
    one.control.arm(4, after=after)
    assert one.ended() == -9
    assert query_rows(place.folder / "journal.sqlite", "SELECT count(*) FROM rows") == [(rows,)]


@pytest.mark.parametrize(
    ("limit", "lowest", "unjust"),
    [("drawdown, 0.1", 89.0, False), ("drawdown, 0.1", 95.0, True), ("margin, 5", 100.0, True)],
)
def test_watch_acting_on_no_real_loss_is_counted(limit: str, lowest: float, unjust: bool) -> None:
    first, now = np.datetime64("2024-02-20T15:00", "ns"), np.datetime64("2024-02-20T16:00", "ns")
    name = limit.partition(",")[0]
    reason = f"watch: {name} 0.2 after 0.2 has reached watch.{limit}; flatten"
    assert unjustified(reason, now, {first: 100.0, now: lowest}, 100.0) is unjust
