"""The probe of a venue: what it finds at practice servers that deviate, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from alpaca.trading.requests import LimitOrderRequest

from execution.alpaca import probe
from execution.alpaca.probe import ProbeSettings, ProbeStep, VenueProbe
from execution.doctor import TRANSCRIPT_FILE, DoctorContext, Finding, probe_venue
from execution.journal.events import EventLog
from execution.journal.halts import HaltJournal
from execution.journal.refusals import read_active_refusals
from execution.live.account_lock import AccountInUse, account_lock, open_journal
from foundation.errors import InputError
from practice.alpaca import stocks
from practice.alpaca.stocks import Venue
from practice.alpaca_server import AlpacaServer
from practice.faults import read_faults
from practice.request import Request, RequestRefused, Route
from tests.e2e.changed_answers import changed_answers
from tests.e2e.practice import (
    KEYS,
    OPENING,
    Practice,
    Start,
    at_the_account,
    buy,
    live_settings,
    practising,
    trading,
)
from tests.e2e.refused import answer_of
from tests.support.desks import PLAIN, SECOND, Desk, alerts, halted_by
from tests.support.messages import refused
from tests.support.passing import Passing
from trainingdata.feed.endpoint import ApiKeys

PROBE = ProbeSettings(symbol="SYA", max_order=10_000)
CLOSE = "2024-02-20T21:00:00Z"
PAPER_KEYS = ApiKeys("PKPAPERPAPER", "SECRETSECRET")
LIVE_KEYS = ApiKeys("AKLIVELIVE", "SECRETSECRET")


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    with practising() as start:
        yield start


@pytest.fixture
def here(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Practice:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    server = start("symbols=[SYA,SYB,SYC]")
    server.advance(OPENING)
    return server


@dataclass
class Probed:
    """What a probe has found: its exit code, findings by name, and its transcript."""

    exit_code: int
    found: Mapping[str, Finding]
    transcript: Mapping[str, Any]
    path: Path

    @property
    def deviations(self) -> set[str]:
        return {name for name, each in self.found.items() if each.level == "failure"}

    def said(self, name: str) -> str:
        return self.found[name].detail


def probed(here: Practice, folder: Path, clock: Passing | None = None, **settings: Any) -> Probed:
    """A probe whose seconds pass at the venue, too."""
    clock = clock or Passing(on_wait=here.pass_seconds)
    live = live_settings(here, "broker.attempts=1", folder=str(folder))
    findings, code = probe_venue(DoctorContext(live, KEYS), replace(PROBE, **settings), clock.time)
    found = {each.name: each for each in findings}
    path = folder / here.venue.record.account_id / TRANSCRIPT_FILE
    failed = any(each.level == "failure" for each in findings)
    return Probed(code if failed else 0, found, json.loads(path.read_text()), path)


def is_flat(here: Practice) -> bool:
    return not here.venue.broker.account().positions and not any(
        ticket.is_open for ticket in here.venue.record.orders.values()
    )


def test_practice_venue_answers_as_probe_assumes(here: Practice, tmp_path: Path) -> None:
    told = probed(here, tmp_path)
    assert (told.exit_code, told.deviations, told.transcript["faults"]) == (0, set(), [])
    assert [each["answer"] for each in told.transcript["steps"]] == [
        *("accepted", "refused 422", "refused 405", "canceled", "accepted", "canceled"),
        *("refused 403", "", "filled", "shown", "accepted", "canceled", "accepted"),
        *("refused 403", "canceled", "filled"),
    ]
    assert is_flat(here)
    assert not here.venue.broker.account().positions
    for body in map(json.loads, here.posts):
        assert (body["symbol"], body["qty"]) == ("SYA", "1")
        assert body["client_order_id"].startswith("probe-")
        assert body["time_in_force"] in ("day", "opg")


CANCELLATIONS = {f"cancel {name}" for name in ("limit", "buy stop", "stop-limit", "stop")}
FAULTY: Mapping[str, tuple[Mapping[str, Any], set[str], str]] = {
    # Faults of the practice venue: what the probe finds, and its words of it.
    "cancellations take five seconds": (
        {"kind": "slow_cancel", "seconds": 5, "count": 99},
        CANCELLATIONS,
        "canceled after 5.",
    ),
    "one cancellation fails": (
        {"kind": "status", "status": 503, "method": "DELETE"},
        {"cancel limit"},
        "refused 503 after",
    ),
    "buy stops become stop-limit orders": (
        {"kind": "converted_stop", "count": 99},
        {"buy stop"},
        "accepted as stop_limit",
    ),
    "positions are behind the account": (
        {"kind": "stale_positions", "seconds": 3, "count": 99},
        {"position after purchase"},
        "shown after 3.",
    ),
    "stops are refused": (
        {"kind": "status", "status": 422, "method": "POST", "type": "stop", "side": "sell"},
        {"stop"},
        "refused 422 after",
    ),
    "limit orders are refused": (
        {"kind": "status", "status": 403, "method": "POST", "type": "limit"},
        {"limit"},
        "refused 403 after",
    ),
    "an accepted purchase is rejected": (
        {"kind": "reject_later", "type": "market"},
        {"purchase"},
        "rejected after",
    ),
}


@pytest.mark.parametrize("deviation", FAULTY)
def test_probe_transcript_reproduces_each_fault(
    here: Practice, start: Start, tmp_path: Path, deviation: str
) -> None:
    fault, names, said = FAULTY[deviation]
    here.fail(**fault)
    told = probed(here, tmp_path)
    assert (told.exit_code, told.deviations) == (1, names)
    for name in names:
        assert said in told.said(name), told.said(name)
    assert is_flat(here)
    if "rejected" in deviation:  # no fault for accepted orders of one type has this effect
        assert told.transcript["faults"] == []
        return
    there = start("symbols=[SYA,SYB]")
    there.advance(OPENING)
    assert read_faults(told.path)
    for each in told.transcript["faults"]:
        there.fail(**each)
    again = probed(there, tmp_path)
    assert again.deviations == names
    seconds = [each["seconds"] for each in told.transcript["steps"]]
    assert [each["seconds"] for each in again.transcript["steps"]] == pytest.approx(seconds, abs=1)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe waits for no minutes."""
    monkeypatch.setattr(probe, "CLOSING_SECONDS", 10.0)


@pytest.mark.usefixtures("impatient")
def test_orders_and_shares_that_stay_open_are_named(here: Practice, tmp_path: Path) -> None:
    here.fail(kind="slow_cancel", seconds=None, type="stop", side="sell", count=999)
    told = probed(here, tmp_path)
    assert (told.exit_code, told.deviations) == (2, {"cancel stop", "flat"})
    [resting] = [each for each in here.venue.record.orders.values() if each.is_open]
    assert told.transcript["left_open"] == [f"order {resting.client_order_id}", "1 SYA"]
    assert f"still open: order {resting.client_order_id}, 1 SYA; close it at" in told.said("flat")
    assert told.transcript["faults"][0]["seconds"] is None


@pytest.mark.usefixtures("impatient")
def test_probe_stops_at_an_uncancellable_order(here: Practice, tmp_path: Path) -> None:
    here.fail(kind="slow_cancel", seconds=None, count=999)
    told = probed(here, tmp_path)
    assert (told.exit_code, told.deviations) == (2, {"cancel limit", "flat"})
    assert len(here.posts) == 2  # the order and its repetition


def killed_after(here: Practice, folder: Path, name: str) -> None:
    """A probe that is killed when it has executed a step."""

    class Killed(BaseException):
        pass

    def run(self: VenueProbe, steps: Iterable[ProbeStep]) -> None:
        for step in steps:
            self.execute(step)
            if step.name == name:
                raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VenueProbe, "run", run)
        patch.setattr(VenueProbe, "close", lambda self: [])
        with pytest.raises(Killed):
            probed(here, folder)
    assert not is_flat(here)


@pytest.mark.parametrize("last", ["limit", "purchase", "stop"])
def test_killed_probe_is_closed_by_the_next_one(here: Practice, tmp_path: Path, last: str) -> None:
    killed_after(here, tmp_path, last)
    told = probed(here, tmp_path)
    assert (told.exit_code, told.deviations) == (0, set())
    assert is_flat(here)


def test_loop_expects_orders_of_a_killed_probe(here: Practice, tmp_path: Path) -> None:
    killed_after(here, tmp_path, "stop")
    desk = Desk.at(here, tmp_path / here.venue.record.account_id, *PLAIN)
    desk.job.step()
    assert desk.step_at(SECOND).decision is not None
    assert (halted_by(desk), alerts(desk)) == ([], "")


def accept_all(patch: pytest.MonkeyPatch) -> None:
    """The venue accepts a sale of reserved shares, and auction orders at any time."""
    patch.setattr(stocks, "venue_refusal_reason", lambda *_: "")


def accept_repeated_ids(patch: pytest.MonkeyPatch) -> None:
    """The venue answers a repeated id with another order, which rests."""
    submit = Venue.submit

    def renamed(self: Venue, request: Mapping[str, Any], **more: Any) -> Any:
        name = request["client_order_id"]
        known = name in self.record.orders
        return submit(self, {**request, "client_order_id": f"{name}-b" * known or name}, **more)

    patch.setattr(Venue, "submit", renamed)


def refuse_replacements(patch: pytest.MonkeyPatch) -> None:
    serve_replacements(patch, refuses=True)


def serve_replacements(patch: pytest.MonkeyPatch, *, refuses: bool = False) -> None:
    """The venue cancels an order and sends its successor, as for Alpaca's PATCH."""
    routes = AlpacaServer.routes

    def replace_order(self: AlpacaServer, asked: Request) -> Any:
        if refuses:
            raise RequestRefused(403, None, "replacements are not permitted")
        venue = self.venue
        order = venue.record.order_by_venue_order_id(asked.path_parameters["number"])
        venue.cancel(order)
        sent = {key: order.to_response()[key] for key in ("symbol", "qty", "side", "type")}
        sent["time_in_force"] = order.to_response()["time_in_force"]
        answer = venue.submit({**sent, **asked.json_object()})
        patch.setattr(order, "status", "replaced")
        shown = type(order).to_response
        successors[id(order)] = answer["id"]
        patch.setattr(
            type(order),
            "to_response",
            lambda each, **more: {**shown(each, **more), "replaced_by": successors.get(id(each))},
        )
        return {**answer, "replaces": order.venue_order_id}

    successors: dict[int, str] = {}
    patch.setattr(
        AlpacaServer,
        "routes",
        lambda self: [
            *routes(self),
            Route("PATCH", "/v2/orders/{number}", lambda asked: replace_order(self, asked)),
        ],
    )


CHANGED: Mapping[str, tuple[Callable[[pytest.MonkeyPatch], None], set[str]]] = {
    "a sale beside a stop and late auction orders are accepted": (
        accept_all,
        {"sale beside stop", "opening auction"},
    ),
    "a second order under one id is accepted": (accept_repeated_ids, {"duplicate id"}),
    "replacements are refused": (refuse_replacements, {"replace"}),
    "replacements are served": (serve_replacements, set()),
}


@pytest.mark.parametrize("deviation", CHANGED)
def test_probe_finds_each_changed_rule_and_ends_flat(
    start: Start, tmp_path: Path, deviation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, names = CHANGED[deviation]
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    change(monkeypatch)
    here = start("symbols=[SYA,SYB]")
    here.advance(OPENING)
    told = probed(here, tmp_path)
    assert (told.exit_code, told.deviations) == (1 if names else 0, names)
    assert is_flat(here)


def test_late_answers_are_measured_by_the_clock(here: Practice, tmp_path: Path) -> None:
    clock = Passing(on_wait=here.pass_seconds)

    def late(method: str, path: str, told: Any) -> Any:
        if (method, path) == ("POST", "/v2/orders"):
            clock.waited.append(4.0)
        return told

    with changed_answers(here, late) as seen:
        told = probed(seen, tmp_path, clock)
    assert told.deviations == {
        "limit",
        "buy stop",
        "purchase",
        "stop-limit",
        "stop",
        "closing sale",
    }
    assert {"kind": "delay", "method": "POST", "path": "/v2/orders"}.items() <= {
        **told.transcript["faults"][0]
    }.items()
    assert told.transcript["faults"][0]["seconds"] == 4.0


def test_purchase_that_does_not_fill_is_cancelled(here: Practice, tmp_path: Path) -> None:
    here.halt("SYA")
    told = probed(here, tmp_path)
    assert (told.exit_code, told.deviations) == (1, {"purchase"})
    assert "skipped; needs purchase" in told.said("stop")
    here.halt("SYA", halted=False)
    assert is_flat(here)


def test_probe_of_closed_exchange_skips_trading_steps(here: Practice, tmp_path: Path) -> None:
    here.advance(CLOSE)
    here.pass_seconds(4 * 3600)  # the venue accepts orders for the next opening auction
    told = probed(here, tmp_path)
    assert (told.exit_code, told.deviations) == (0, set())
    assert "skipped; needs an open exchange" in told.said("purchase")
    assert "accepted" in told.said("opening auction")
    assert is_flat(here)
    here.fail(kind="status", status=422, method="POST", type="limit", count=99)
    again = probed(here, tmp_path)
    assert again.deviations == {"limit", "opening auction"}


def test_transcript_is_private_and_redacted(here: Practice, tmp_path: Path) -> None:
    told = probed(here, tmp_path)
    assert told.path.stat().st_mode & 0o077 == 0
    text = told.path.read_text()
    assert not [s for s in (KEYS.key, KEYS.secret, here.venue.record.account_id) if s in text]


@pytest.mark.parametrize(
    ("keys", "broker"),
    [
        (LIVE_KEYS, {}),
        (KEYS, {"paper": False}),
        (KEYS, {"url_override": None}),
        (KEYS, {"url_override": "https://example.com"}),
        (PAPER_KEYS, {"url_override": "https://api.alpaca.markets"}),
        (PAPER_KEYS, {"paper": False, "url_override": None}),
        (LIVE_KEYS, {"url_override": None}),
    ],
)
def test_probe_refuses_accounts_with_real_money(
    here: Practice, tmp_path: Path, keys: ApiKeys, broker: dict[str, Any]
) -> None:
    asked: list[str] = []

    def note(_: str, path: str, told: Any) -> Any:
        asked.append(path)
        return told

    with changed_answers(here, note) as seen:
        live = live_settings(seen, folder=str(tmp_path / "live"))
        live = replace(live, broker=replace(live.broker, **broker))
        with refused(InputError, "venue=probe"):
            probe_venue(DoctorContext(live, keys), PROBE)
    assert not asked
    assert not (tmp_path / "live").exists()


@pytest.mark.parametrize("settings", [{"max_order": 60.0}, {"symbol": "BTCUSD"}, {"symbol": "ZZZ"}])
def test_probe_refuses_orders_beyond_its_limit(
    here: Practice, tmp_path: Path, settings: dict[str, Any]
) -> None:
    with refused(InputError, "probe.symbol", "probe.max_order"):
        probed(here, tmp_path, **settings)
    assert not here.posts


def test_probe_refuses_a_symbol_with_orders_or_positions(here: Practice, tmp_path: Path) -> None:
    trading(here).submit_order(buy("SYA", 7))
    before = dict(here.venue.broker.account().positions)
    with pytest.raises(InputError, match="7 SYA is open; close all orders and the position"):
        probed(here, tmp_path)
    trading(here).submit_order(
        LimitOrderRequest(symbol="SYC", qty=3, side="buy", limit_price=5, time_in_force="day")
    )
    with pytest.raises(InputError, match=r"order .* is open; close all orders"):
        probed(here, tmp_path, symbol="SYC")
    assert here.venue.broker.account().positions == before
    assert len(here.venue.broker.account().open_orders) == 1


def test_probe_refuses_running_loops_and_halts(here: Practice, tmp_path: Path) -> None:
    account = here.venue.record.account_id
    live = live_settings(here, "broker.attempts=1", folder=str(tmp_path))
    with account_lock(account), pytest.raises(AccountInUse):
        probe_venue(DoctorContext(live, KEYS), PROBE)
    with open_journal(account, tmp_path) as held:
        halts = HaltJournal(held.database, EventLog(held.database))
        halts.raise_halt("positions", "SYB is 12", here.venue.now)
    findings, _ = probe_venue(DoctorContext(live, KEYS), PROBE)
    assert [each.name for each in findings if each.level == "failure"] == ["halts"]
    assert not here.posts


def test_loop_trades_without_halts_after_a_probe(here: Practice, tmp_path: Path) -> None:
    folder = tmp_path / here.venue.record.account_id
    assert probed(here, tmp_path).exit_code == 0
    desk = Desk.at(here, folder, *PLAIN)
    desk.job.step()
    assert desk.cycles[-1].decision is not None
    assert probed(here, tmp_path, symbol="SYC").exit_code == 0
    after = Desk.at(here, folder, *PLAIN)
    assert after.step_at(SECOND).decision is not None
    assert (halted_by(after), alerts(after)) == ([], "")
    assert not read_active_refusals(after.database)


def test_probe_command_prints_one_line_per_step(
    here: Practice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_the_account(monkeypatch, tmp_path)
    words = ("venue=probe", "probe.symbol=SYA", f"broker.url_override={here.url}")
    code, printed, said = answer_of("execution.doctor", *words, "probe.max_order=1000")
    assert (code, said) == (0, "")
    assert printed.splitlines()[-1].startswith("ok      flat: nothing of the probe is open")
    assert "ok      limit: buy limit " in printed
    here.fail(kind="converted_stop", count=9)
    code, printed, _ = answer_of("execution.doctor", *words, "probe.max_order=1000", "--json")
    told = json.loads(printed)
    assert (code, told["passed"]) == (1, False)
    failed = [each for each in told["checks"] if each["level"] == "failure"]
    assert [each["name"] for each in failed] == ["buy stop"]
    assert not [secret for secret in (KEYS.key, KEYS.secret) if secret in printed]
