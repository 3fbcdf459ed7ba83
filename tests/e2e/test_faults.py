"""Whatever the wire does and whenever a command is killed: nothing twice, nothing lost.

And what counts that is seen to count: a check that cannot fail is none.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from execution.journal.order_store import Progress
from tests.e2e import fault_checks
from tests.e2e.fault_checks import Sent, World, differently_filled, lost_either_way
from tests.e2e.fault_kills import differing, kills
from tests.e2e.fault_kinds import KINDS
from tests.e2e.faults import NEVER
from tests.e2e.kalshi_schedule import schedule as contract_schedule
from tests.e2e.selling_schedule import schedule as selling_schedule
from tests.e2e.trading_schedule import schedule, trading

LONG = pytest.mark.long


def never(counts: Counter[str]) -> dict[str, int]:
    """What must never be, and was."""
    return {name: counts[name] for name in NEVER if counts[name]}


@pytest.mark.parametrize(
    ("seed", "steps", "kinds"),
    [
        pytest.param(3, 3, ("kill",), marks=pytest.mark.slow),
        *(
            pytest.param(seed, 3, (kind,), marks=LONG)
            for seed, kind in enumerate(KINDS)
            if kind != "kill"
        ),
    ],
)
def test_whatever_goes_wrong_every_order_of_the_loop_is_once_in_the_books(
    tmp_path: Path, seed: int, steps: int, kinds: tuple[str, ...]
) -> None:
    counts = schedule(seed, steps, tmp_path, kinds)
    assert never(counts) == {}, counts
    assert counts["runs"] > 1


@pytest.mark.parametrize(
    ("seed", "steps"),
    [pytest.param(34, 3, marks=pytest.mark.slow), pytest.param(17, 11, marks=LONG)],
)
def test_whatever_goes_wrong_every_order_of_the_seller_is_once_in_the_books(
    tmp_path: Path, seed: int, steps: int
) -> None:
    counts = selling_schedule(seed, steps, tmp_path)
    assert never(counts) == {}, counts
    assert counts["orders"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_whatever_goes_wrong_every_order_of_event_contracts_is_once_in_the_books(
    tmp_path: Path, seed: int
) -> None:
    counts = contract_schedule(seed, 3, tmp_path)
    assert never(counts) == {}, counts
    assert counts["orders"] > 0


@LONG
@pytest.mark.parametrize("job", ["trade", "spreads"])
def test_a_killed_week_ends_as_an_undisturbed_one(tmp_path: Path, job: str) -> None:
    counts = kills(job, 12, 5, tmp_path)
    assert never(counts) == {}, counts
    assert counts["kills"] == 12
    assert counts["orders"] > 12


@pytest.fixture(scope="module")
def traded(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Three instants to which nothing happened."""
    folder = tmp_path_factory.mktemp("traded")
    with trading(folder, 0, Counter(), "2024-02-20T15:00Z", "2024-02-23", plain=True) as one:
        for _ in range(3):
            one.here.advance()
            assert one.work()
        one.gone()
        assert one.alone("cycles=1") == 0
        return one.world()


@pytest.fixture
def world(traded: World) -> World:
    """A world that may be damaged."""
    return copy.deepcopy(traded)


def a_sent(world: World, part: str) -> tuple[int, Sent]:
    """An order as it left, and where it is among them."""
    for place, sent in enumerate(world.sent):
        if world.books.written[sent.name].part == part:
            return place, sent
    raise AssertionError(f"no {part} was sent")


def sent_with(world: World, part: str = "opening", **changes: Any) -> None:
    """Change how an order left."""
    place, sent = a_sent(world, part)
    world.sent[place] = replace(sent, **changes)


def filled_name(world: World) -> str:
    """An order that has filled."""
    return next(order.name for order in world.ours() if order.fills)


def known_as(world: World, name: str, like: str, **changes: Any) -> None:
    """Have the book know an order of this id, like another one."""
    written = world.books.written[like]
    order = replace(written.single, client_order_id=name)
    world.books.written[name] = replace(written, order=order, **changes)


def an_id_more(world: World) -> None:
    order = world.orders[filled_name(world)]
    name = order.name.removesuffix("-0") + "-1"
    world.orders[name] = replace(order, name=name)
    known_as(world, name, order.name)


def another_leg_beyond_the_decision(world: World) -> None:
    order = world.orders[filled_name(world)]
    name = order.name.removesuffix("-0-0") + "-7-0"
    world.orders[name] = replace(order, name=name)
    known_as(world, name, order.name)


def not_in_the_book(world: World) -> None:
    name = next(order.name for order in world.ours())
    world.sent = []
    del world.books.written[name]


def given_up(world: World) -> None:
    name = next(order.name for order in world.ours())
    written = world.books.written[name]
    world.books.written[name] = replace(written, state="never_taken", progress=Progress("working"))


def never_at_the_venue(world: World) -> None:
    del world.orders[filled_name(world)]


def fill_not_listed(world: World) -> None:
    del world.books.fills[world.orders[filled_name(world)].number]


def fill_a_cent_off(world: World) -> None:
    number = world.orders[filled_name(world)].number
    cent = Decimal("0.01")
    world.books.fills[number] = [(q, p + cent) for q, p in world.books.fills[number]]


def beyond_the_cap(world: World) -> None:
    _, sent = a_sent(world, "opening")
    sent_with(world, signed=Decimal(round(0.66 * sent.equity / sent.prices[sent.symbol])))


def beyond_the_gross_ceiling(world: World) -> None:
    _, sent = a_sent(world, "opening")
    other = next(symbol for symbol in sent.prices if symbol != sent.symbol)
    held = Decimal(round(4.06 * sent.equity / sent.prices[other]))
    sent_with(world, positions={other: held})


def a_coin_beyond_cash(world: World) -> None:
    place, sent = a_sent(world, "opening")
    coins = {**sent.prices, "SYXUSD": 100.0}
    signed = Decimal(round(0.3 * sent.equity / 100))
    world.sent[place] = replace(
        sent, symbol="SYXUSD", signed=signed, prices=coins, positions={}, cash=0.0
    )


def sent_under_the_kill_file(world: World) -> None:
    sent_with(world, killed=True)


def sent_at_its_expiry(world: World) -> None:
    _, sent = a_sent(world, "opening")
    sent_with(world, at=world.books.written[sent.name].order.expires_at)


def sent_before_its_reductions_filled(world: World) -> None:
    _, sent = a_sent(world, "opening")
    name = f"{world.strategy}-20240220T000000Z-SYA-0-0"
    waits = Progress("working")
    known_as(world, name, sent.name, part="reduction", state="planned", progress=waits)


def a_symbol_that_is_not_ours(world: World) -> None:
    _, sent = a_sent(world, "opening")
    world.symbols -= {sent.symbol}


def a_persons_order_cancelled(world: World) -> None:
    order = replace(next(iter(world.orders.values())), name="by-hand-0", status="canceled")
    world.orders["by-hand-0"] = order


def sent_under_a_halt(world: World) -> None:
    world.books.events.insert(0, ("halted", "positions"))


def opened_under_a_loss(world: World) -> None:
    world.books.events.insert(0, ("halted", "daily_loss"))


@pytest.mark.parametrize(
    ("damage", "counted"),
    [
        (an_id_more, {"duplicates"}),
        (another_leg_beyond_the_decision, {"duplicates"}),
        (not_in_the_book, {"lost"}),
        (given_up, {"lost"}),
        (never_at_the_venue, {"lost"}),
        (fill_not_listed, {"lost"}),
        (fill_a_cent_off, {"differing_fills"}),
        (beyond_the_cap, {"breaches"}),
        (beyond_the_gross_ceiling, {"breaches"}),
        (a_coin_beyond_cash, {"breaches"}),
        (sent_under_the_kill_file, {"breaches"}),
        (sent_at_its_expiry, {"breaches"}),
        (sent_before_its_reductions_filled, {"breaches"}),
        (a_symbol_that_is_not_ours, {"breaches"}),
        (a_persons_order_cancelled, {"breaches"}),
        (sent_under_a_halt, {"breaches"}),
        (opened_under_a_loss, {"breaches"}),
    ],
)
def test_whatever_must_never_be_of_the_loop_is_counted(
    world: World, damage: Callable[[World], None], counted: set[str]
) -> None:
    assert len(world.ours()) > 1
    assert not +world.counts(), fault_checks.breaches(world)
    damage(world)
    assert set(+world.counts()) == counted


def test_what_one_side_alone_knows_of_an_order_is_counted_of_any_job(world: World) -> None:
    book = world.books.written
    filled = {name: intent.progress.filled for name, intent in book.items()}
    there = [name for name, intent in book.items() if intent.taken]
    assert lost_either_way(there, book) == differently_filled(filled, book) == 0
    assert lost_either_way([*there[1:], "another"], book) == 2
    assert differently_filled({**filled, there[0]: Decimal(10**6)}, book) == 1


def test_a_halt_that_has_ended_forbids_nothing(world: World) -> None:
    world.books.events[:0] = [("halted", "positions"), ("halt ended", "positions")]
    assert not +world.counts()


def test_an_order_of_a_damaged_journal_is_not_lost(world: World) -> None:
    name = filled_name(world)
    not_in_the_book(world)
    fill_not_listed(world)
    world.forgotten = frozenset(world.orders)
    assert name in world.orders
    assert not world.counts()["lost"]


def test_two_outcomes_differ_by_a_cent_a_share_or_an_order() -> None:
    one = {"cash": 10.0, "SYA": Decimal(3), "o-1": [(Decimal(3), Decimal("1.50"))]}
    assert differing(one, dict(one)) == []
    assert len(differing(one, {**one, "cash": 10.01})) == 1
    assert len(differing(one, {**one, "SYA": Decimal(4)})) == 1
    assert len(differing(one, {**one, "o-1": [(Decimal(3), Decimal("1.51"))]})) == 1
    assert len(differing(one, {"cash": 10.0, "SYA": Decimal(3)})) == 1
