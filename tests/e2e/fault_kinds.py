"""What goes wrong at an instant of a schedule of stocks and coins.

Each kind is a generator: what comes before its first `yield` is done before the instant comes, and
the process works at every `yield`.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import requests

from tests.e2e.fault_checks import Books
from tests.e2e.fault_child import AHEAD
from tests.e2e.fault_proxy import Trap
from tests.e2e.fault_runs import arm_kill

if TYPE_CHECKING:
    from tests.e2e.trading_schedule import Trading

Kind = Callable[["Trading"], Iterator[None]]
HOUR = 3600
LOOKS = (20 * 60, 28 * 60)  # seconds from the last bar to the looks before the close
OVERNIGHT = 2.0  # times equity, that the venue lends overnight
BY_HAND = {"APCA-API-KEY-ID": "K", "APCA-API-SECRET-KEY": "S"}
VENUE_FAULTS: tuple[dict[str, Any], ...] = (
    *({"kind": kind} for kind in ("partial", "reject", "reject_later")),
    *({"kind": kind, "count": 2} for kind in ("partial", "reject")),
    *({"kind": "state", "state": state, "count": 3} for state in ("pending_new", "held")),
    {"kind": "skew", "seconds": 900, "count": 2},
    {"kind": "status", "status": 403, "method": "POST", "path": "/v2/orders"},
    {"kind": "late", "seconds": 3600, "method": "POST", "path": "/v2/orders", "count": 2},
)


# What a venue that takes its time does, one of each kind at an instant; `None` is never.
MANY = 10**6  # requests
ALWAYS: Mapping[str, Any] = {"count": MANY}
SLOW: Mapping[str, tuple[dict[str, Any], ...]] = {
    "slow_cancellations": tuple(
        {"kind": "slow_cancel", "seconds": seconds} for seconds in (0.5, 5, 30, 60, 60, None)
    ),
    "failed_cancellations": tuple(
        {"kind": "status", "status": 503, "method": "DELETE", "count": count}
        for count in (1, 4, MANY)
    ),
    "partial_fills": tuple(
        {"kind": "partial_rests", "seconds": seconds, **order}
        for seconds in (5, None)
        for order in ({"type": "stop"}, {"side": "sell"}, {"side": "buy"})
    ),
    "elected_stops": tuple({"kind": "elected_rests", "seconds": each} for each in (60, None)),
    "converted_stops": ({"kind": "converted_stop"},),
    "late_positions": tuple({"kind": "stale_positions", "seconds": each} for each in (4, 60)),
    "wrong_marks": tuple({"kind": "wrong_marks", "factor": each} for each in (0.9, 0.5, 1.2)),
    "refused_stops": tuple(
        {"kind": "status", "status": 422, "method": "POST", "type": each}
        for each in ("stop", "stop_limit", "trailing_stop")
    ),
}


def nothing(one: Trading) -> Iterator[None]:
    """Nothing at all."""
    one.alive()
    yield


def wire(one: Trading) -> Iterator[None]:
    """Any request may fail in any way."""
    one.wire.danger = one.rng.choice((0.03, 0.1, 0.3))
    yield
    one.wire.danger = 0.0
    if one.rng.random() < 0.5:
        yield


def orders_on_the_wire(one: Trading) -> Iterator[None]:
    """Orders fail in any way, and many land long after they were looked for."""
    one.wire.danger_of_orders = one.rng.choice((0.4, 1.0))
    yield
    one.wire.danger_of_orders = None
    if one.rng.random() < 0.5:
        yield


def kill(one: Trading) -> Iterator[None]:
    """The process is killed at a request, a commit or a moment, and mostly started again."""
    kind = arm_kill(one.alive(), one.rng)
    one.counts[f"armed {kind}"] += 1
    yield
    if one.run is not None:
        one.run.control.arm(0, after=False)
        one.wire.trap = None
    if one.rng.random() < 0.4:
        one.wire.land()
    if one.run is None and one.rng.random() < 0.7:
        yield


def kill_on_a_bad_wire(one: Trading) -> Iterator[None]:
    """The process is killed while requests fail, and started again while they do."""
    one.wire.danger = 0.1
    one.wire.danger_of_orders = 0.4
    arm_kill(one.alive(), one.rng)
    yield
    yield
    one.wire.trap = None
    one.wire.danger = 0.0
    one.wire.danger_of_orders = None


def venue(one: Trading) -> Iterator[None]:
    """The venue fills a part, rejects, says something else, or takes an order much later."""
    one.here.fail(**one.rng.choice(VENUE_FAULTS))
    yield
    one.here.clear_faults()
    if one.rng.random() < 0.5:
        one.here.land()


def hold(one: Trading) -> Iterator[None]:
    """Trading in a symbol is halted, so that its orders wait."""
    symbol = one.rng.choice(("SYA", "SYB", "SYXUSD"))
    one.here.halt(symbol)
    yield
    one.here.halt(symbol, halted=False)


def stopped_across_an_instant(one: Trading) -> Iterator[None]:
    """The process sleeps at a request, and wakes an instant later."""
    run = one.alive()

    def sleep() -> None:
        run.send(signal.SIGSTOP)
        before = one.here.venue.now
        one.here.advance()
        run.control.numbers[AHEAD] += (one.here.venue.now - before) // np.timedelta64(1, "s")
        time.sleep(0.02)
        run.send(signal.SIGCONT)

    method = one.rng.choice(("GET", "GET", "POST"))
    number = one.rng.randint(1, 3) if method == "POST" else one.rng.randint(1, 20)
    path = "/v2/orders" if method == "POST" else "/v2"
    one.wire.trap = Trap(sleep, method, path, number)
    yield
    one.wire.trap = None


def clock(one: Trading) -> Iterator[None]:
    """The broker's clock is an hour ahead, or behind, and is put right."""
    one.wire.ahead = one.rng.choice((-HOUR, HOUR, HOUR // 2))
    yield
    one.wire.ahead = 0
    yield


def full_disk(one: Trading) -> Iterator[None]:
    """Nothing more fits on the disk, or nearly nothing."""
    one.gone()
    size = one.journal.stat().st_size if one.journal.exists() else 2**16
    if one.rng.random() < 0.5:
        limits = {"pages": one.rng.randint(0, 6)}
    else:
        limits = {"bytes": size + 4096 * one.rng.randint(0, 4)}
    one.start("cycles=null", limits=limits)
    yield
    one.gone()
    yield


def torn_journal(one: Trading) -> Iterator[None]:
    """The journal is damaged between two runs: it is set aside, and nothing is opened."""
    one.gone()
    if not one.journal.exists():
        yield
        return
    one.forget()
    whole = one.journal.read_bytes()
    spoilt = (
        whole[: len(whole) // 2],
        whole[:4096] + bytes(4096) + whole[8192:],
        b"not a database " * 900,
    )
    one.journal.write_bytes(one.rng.choice(spoilt))
    one.journal.with_name("journal.sqlite-journal").unlink(missing_ok=True)
    before = len(one.sent)
    yield
    one.gone()
    kept = list(one.journal.parent.glob("journal-damaged-*"))
    one.counts["breaches"] += _has_decided(one, before) or not kept
    code = one.command("-m", "execution.live", "clear", "journal", "--by", "the driver")
    one.counts["journals not cleared"] += code != 0
    yield


def _has_decided(one: Trading, before: int) -> bool:
    """Whether any order after the first `before` was sent for neither a stop nor a command."""
    roles = {name: order.role for name, order in Books.of(one.journal).written.items()}
    sent = [roles.get(each.name) for each in one.sent[before:]]
    return any(role not in ("protection", "command") for role in sent)


def two_processes(one: Trading) -> Iterator[None]:
    """Another process is started on the account while one works on it."""
    one.alive()
    yield
    if one.run is None:
        return
    before = len(one.sent)
    code = one.command(*one.words, "cycles=1", "folder=other")
    # The first process goes on with stops and a person's commands.
    one.counts["breaches"] += code != 2 or _has_decided(one, before)


def foreign(one: Trading) -> Iterator[None]:
    """A person trades in the account: in another symbol, or in ours."""
    one.alive()
    symbol = one.rng.choice(("SYC", "SYC", "SYA"))
    side = one.rng.choice(("buy", "sell"))
    _send_by_hand(one, {"symbol": symbol, "type": "market", "side": side})
    yield


def foreign_order(one: Trading) -> Iterator[None]:
    """A person's order in another symbol works, far from the market."""
    one.alive()
    _send_by_hand(one, {"symbol": "SYC", "type": "limit", "side": "buy", "limit_price": "1.00"})
    yield


def looked_at(one: Trading) -> Iterator[None]:
    """A person has looked at what was done by hand, and clears its halt."""
    one.alive()
    one.clear_halts()
    yield


def before_the_close(one: Trading) -> Iterator[None]:
    """A person has bought more than is lent overnight; the process may be killed as it cuts.

    The server's clock goes from bar to bar, so the wire shows it ahead.
    """
    today = str(one.here.venue.now)[:10]
    if str(one.here.venue.now)[11:16] >= "20:30" or str(one.here.venue.now)[11:16] < "14:30":
        yield
        return
    one.here.advance(f"{today}T20:00Z")
    yield
    account = one.here.venue.broker.account()
    # No order goes through nothing held, so the person adds to what is there.
    side = "sell" if account.positions.get("SYA", 0) < 0 else "buy"
    number = int(2.6 * account.equity / account.prices["SYA"])
    _send_by_hand(one, {"symbol": "SYA", "type": "market", "side": side, "qty": str(number)})
    for seconds in LOOKS:
        one.wire.ahead = seconds
        if seconds != LOOKS[-1] and one.rng.random() < 0.5:
            arm_kill(one.alive(), one.rng)
        yield
        one.wire.trap = None
        one.alive().control.arm(0, after=False)
    yield
    account = one.here.venue.broker.account()
    gross = sum(
        abs(float(held)) * account.prices[symbol]
        for symbol, held in account.positions.items()
        if symbol != "SYXUSD"
    )
    one.counts["nights"] += 1
    # A venue refuses a cut that a person's open order would trade with: the refusal is alerted, and
    # the position stays.
    persons = [t for name, t in one.here.venue.tickets.items() if name.startswith("by-hand")]
    # Once a cycle has read the person's purchase, the account is halted. Quarantined positions
    # stay; all others are cut.
    with one.halts() as halts:
        aside = halts.quarantined_symbols()
        halted = any(halt.kind == "positions" for halt in halts.active())
    left = {symbol for symbol, held in account.positions.items() if held} - aside - {"SYXUSD"}
    kept = any(ticket.is_open for ticket in persons) or halted or (aside and not left)
    over = gross > OVERNIGHT * account.equity
    one.counts["breaches"] += over and not kept
    one.counts["nights above the ceiling for what a person did"] += bool(over and kept)
    one.wire.ahead = 0


def kill_file(one: Trading) -> Iterator[None]:
    """A person puts the kill file there while the process works."""
    one.alive()
    number = one.rng.randint(1, 25)

    def put() -> None:
        if one.kill_file.parent.is_dir():
            one.kill_file.write_text("stop")

    one.wire.trap = Trap(put, "", "/v2", number)
    yield
    one.gone()
    if one.kill_file.exists():
        # A second process refuses to trade.
        yield
        one.gone()
        one.kill_file.unlink()
    yield


def told_to_stop(one: Trading) -> Iterator[None]:
    """The process is told to end while it works, and started again."""
    run = one.alive()
    number = one.rng.randint(1, 25)
    one.wire.trap = Trap(lambda: run.send(signal.SIGTERM), "", "/v2", number)
    yield
    if one.run is None:
        yield


def slow(faults: Sequence[Mapping[str, Any]]) -> Kind:
    """The kind in which the venue does one of these for some minutes, and its clock goes on."""

    def kind(one: Trading) -> Iterator[None]:
        one.alive()
        one.here.fail(**{**ALWAYS, **one.rng.choice(faults)})
        one.paced = True
        yield
        if one.guarding and one.run is not None:
            one.minutes(2, calm=False)
        one.paced = False
        one.here.clear_faults()
        yield

    return kind


def closed_by_hand(one: Trading) -> Iterator[None]:
    """A person cancels what rests in a symbol and closes its position at the venue."""
    one.alive()
    account = one.here.venue.broker.account()
    if held := {symbol: q for symbol, q in account.positions.items() if symbol != "SYC" and q}:
        symbol = one.rng.choice(sorted(held))
        for ticket in [*one.here.venue.tickets.values()]:
            if ticket.is_open and ticket.order.symbol == symbol:
                url = f"{one.here.url}/v2/orders/{ticket.venue_order_id}"
                requests.delete(url, headers=BY_HAND, timeout=30)
        side = "sell" if held[symbol] > 0 else "buy"
        terms = {"symbol": symbol, "type": "market", "side": side, "qty": f"{abs(held[symbol]):f}"}
        _send_by_hand(one, terms)
    yield


def killed_over_a_command(one: Trading) -> Iterator[None]:
    """A person reduces while the venue cancels slowly, and the process is killed at a commit."""
    one.here.fail(kind="slow_cancel", seconds=one.rng.choice((0, 5, 30)), count=MANY)
    run = one.alive()
    yield
    one.commands.write(one.journal.parent, one.rng.choice(("reduce", "exit", "flatten")))
    run.control.arm(one.rng.randint(1, 30), after=one.rng.random() < 0.5)
    one.paced = True
    yield
    if one.run is not None:
        one.run.control.arm(0, after=False)
    yield
    one.paced = False
    one.here.clear_faults()


KINDS: Mapping[str, Kind] = {
    each.__name__: each
    for each in (
        *(nothing, wire, orders_on_the_wire, kill, kill_on_a_bad_wire, venue, hold),
        *(stopped_across_an_instant, clock, full_disk, torn_journal, two_processes, foreign),
        *(foreign_order, looked_at, before_the_close),
        *(kill_file, told_to_stop, closed_by_hand, killed_over_a_command),
    )
} | {name: slow(faults) for name, faults in SLOW.items()}


def _send_by_hand(one: Trading, order: Mapping[str, str]) -> None:
    """Send a person's order; the venue may refuse what nobody could trade."""
    name = f"by-hand-{len(one.here.venue.tickets)}"
    shared = {"client_order_id": name, "qty": str(one.rng.randint(1, 40)), "time_in_force": "gtc"}
    requests.post(
        f"{one.here.url}/v2/orders", json={**shared, **order}, headers=BY_HAND, timeout=30
    )
