"""Protective orders of a live account: recognised, sent once, kept while no loop runs, released."""

from __future__ import annotations

import itertools
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from execution.alpaca.broker import AlpacaBroker
from execution.journal.order_store import ORDER_STATES, OrderIntent, OrderStore
from execution.live.account_lock import JOURNAL_FILE
from execution.live.runner import finish_jobs
from execution.live.status import report_status
from execution.live.watch import AccountWatch, LiveAccountReader
from execution.orders.orders import Order, is_protective_order
from practice.request import RequestRefused
from tests.e2e.changed_answers import LaggingPositions, changed_answers
from tests.e2e.practice import Practice, Start, at_the_account, live_settings, trading
from tests.e2e.refused import answer_of
from tests.support.desks import PLAIN, Desk, alerts, halted_by
from tests.support.given_commands import command_desk
from tests.support.overnight import LAST_CYCLE, buy_up_to, gross, show
from tests.support.protection import split
from tests.support.readers import PatientReader
from tests.support.replays import Desk as Replay
from tests.support.replays import Killed, assert_same, mortal, nothing
from tests.support.replays import desk_of as desk_of
from trainingdata.bars import LOW, VOLUME, Bars
from trainingdata.feed.bar_feed import BarFeed

STOPS = ("protect.kind=stop", "protect.distance=5%")
OPENING = "2024-02-20T15:30:00Z"
SECOND = "2024-02-20T16:30:00Z"
THIRD = "2024-02-20T17:30:00Z"
NEXT_DAY = "2024-02-21T15:30:00Z"


@contextmanager
def desk_at(here: Practice, folder: Path, *words: str) -> Iterator[Desk]:
    """A process on the account, whose first cycle is over."""
    desk = Desk.at(here, folder, *PLAIN, *STOPS, *words)
    desk.job.step()
    yield desk
    desk.database.close()


def stops_at(here: Practice) -> dict[str, Order]:
    account = here.venue.broker.account()
    stops = [order for order in account.open_orders if is_protective_order(order)]
    assert len({order.symbol for order in stops}) == len(stops)
    assert all(o.qty <= abs(account.positions.get(o.symbol, Decimal(0))) for o in stops)
    return {order.symbol: order for order in stops}


def last_stop_reason(book: OrderStore, symbol: str) -> str:
    """Why the latest stop of a symbol is in its state."""
    stops = book.select_intents("role = 'protection' AND symbol = ?", (symbol,))
    return stops[-1].state_reason


def protections(desk: Desk) -> list[OrderIntent]:
    intents = desk.live.book.intents_in_states(ORDER_STATES)
    return [intent for intent in intents if intent.role == "protection"]


def test_cycle_leaves_one_journaled_stop_a_position(here: Practice, tmp_path: Path) -> None:
    with desk_at(here, tmp_path) as desk:
        positions = here.venue.broker.account().positions
        stops = stops_at(here)
        assert set(stops) == set(positions) == {"SYA", "SYB"}
        for symbol, stop in stops.items():
            assert stop.qty == positions[symbol]
        assert {intent.state for intent in protections(desk)} == {"accepted"}
        assert {intent.decision_id for intent in protections(desk)} == {
            "trade-protect-20240220T153000Z"
        }
        assert all(str(each.order.reason).startswith("protects ") for each in protections(desk))


def test_accepted_stops_end_the_refusals_before_them(
    here: Practice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = here.venue.submit

    def refuse_stops(request: dict[str, Any], **faults: bool) -> Any:
        if "stop" in request["type"]:
            raise RequestRefused(422, None, "stop orders are not accepted now")
        return submit(request, **faults)

    monkeypatch.setattr(here.venue, "submit", refuse_stops)
    with desk_at(here, tmp_path) as desk:
        refusals, book = desk.live.account.refusals, desk.live.book
        refusals.clear_contradicted_causes()
        here.advance("2024-02-20T15:45:00Z")
        desk.job.update_protection()
        assert stops_at(here) == {}
        assert "stop orders are not accepted" in last_stop_reason(book, "SYB")
        assert report_status(tmp_path / JOURNAL_FILE, here.venue.now).exit_code == 1
        monkeypatch.setattr(here.venue, "submit", submit)
        desk.step_at(SECOND)
        assert set(stops_at(here)) == {"SYA", "SYB"}
        refusals.clear_contradicted_causes()
        assert report_status(tmp_path / JOURNAL_FILE, here.venue.now).exit_code == 0
        assert last_stop_reason(book, "SYB") == ""


def test_next_process_recognises_resting_stops(here: Practice, tmp_path: Path) -> None:
    with desk_at(here, tmp_path) as desk:
        before, posts = stops_at(here), len(here.posts)
        again = desk.again()
        again.job.update_protection()
        again.job.update_protection()
        assert stops_at(here) == before
        assert len(here.posts) == posts


def test_watch_reads_once_for_itself_and_the_stops(
    here: Practice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("protect.distance=4sd", "watch.drawdown=0.5")
    with desk_at(here, tmp_path, *words) as desk:
        settings = live_settings(here, *STOPS, *words)
        reader = LiveAccountReader(desk.live, settings)
        commands = command_desk(desk)
        watch = AccountWatch(settings.watch, reader, desk.live.account, commands, [desk.job])
        before, asked = stops_at(here), Counter[str]()
        for kind, name in ((AlpacaBroker, "read_account"), (BarFeed, "bars")):
            monkeypatch.setattr(kind, name, counted(getattr(kind, name), asked))
        watch.read()
        watch.read()
        assert (set(before), stops_at(here)) == ({"SYA", "SYB"}, before)
        assert asked == {"read_account": 2}


def counted(act: Callable[..., Any], asked: Counter[str]) -> Callable[..., Any]:
    """The same function, which counts its calls."""

    def counting(*parts: Any, **words: Any) -> Any:
        asked[act.__name__] += 1
        return act(*parts, **words)

    return counting


def crashed(bars: Bars) -> Bars:
    """SYA falls by a fifth within the bar that ends at 16:30, and comes back."""
    values = bars.values.copy()
    row = int(np.searchsorted(bars.times, np.datetime64(SECOND[:-1], "ns")))
    values[bars.symbols.index("SYA"), row, LOW] *= 0.8
    return bars.__class__(bars.instruments, bars.times, values, bars.mask, bars.source)


def test_stopped_symbol_waits_for_the_next_session(practice: Start, tmp_path: Path) -> None:
    here = practice("symbols=[SYA,SYB]", bars=crashed)
    here.advance(OPENING)
    with desk_at(here, tmp_path) as desk:
        held = here.venue.broker.account().positions["SYA"]
        cycle = desk.step_at(SECOND)
        (sale,) = [f for f in here.venue.broker.fills if "-SYA-stop-" in f.client_order_id]
        assert -sale.qty == held
        assert cycle.account.cooling_symbols == {"SYA"}
        assert "SYA" not in here.venue.broker.account().positions
        desk.step_at(THIRD)
        assert "SYA" not in here.venue.broker.account().positions
        assert desk.step_at(NEXT_DAY).account.cooling_symbols == frozenset()
        assert here.venue.broker.account().positions["SYA"] > 0
        assert set(stops_at(here)) == {"SYA", "SYB"}


def test_lagging_positions_are_read_until_fills_show(here: Practice, tmp_path: Path) -> None:
    """The second cycle trades too little for the account's sums to show that positions lag."""
    with changed_answers(here, LaggingPositions(answers=3)) as seen:
        desk = Desk.at(seen, tmp_path, *PLAIN, *STOPS, "sizing.band=0")
        for at in (OPENING, SECOND, THIRD):
            filled = len(here.venue.broker.fills)
            desk.step_at(at)
            assert len(here.venue.broker.fills) > filled
            held = here.venue.broker.account().positions
            assert {s: stop.qty for s, stop in stops_at(here).items()} == held
            assert {*held} == {"SYA", "SYB"}
            mark = desk.live.account.marks.last_mark()
            assert mark is not None
            assert mark.positions == pytest.approx(valued(desk, held))
        assert desk.live.halts.history() == ()


def valued(desk: Desk, held: Mapping[str, Decimal]) -> dict[str, float]:
    """Return the value of positions at the venue's marks, USD."""
    marks = {s: each.market_value for s, each in desk.live.connection.positions().items()}
    return {symbol: float(marks[symbol]) for symbol in held}


def test_reader_of_the_journal_leaves_no_fill_unprotected(
    here: Practice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk.at(here, tmp_path, *PLAIN, *STOPS)
    submit, waits = desk.job.desk.submit, []

    def submit_beside_a_reader(*orders: Any) -> Any:
        with PatientReader.of(desk.database, ends_after=3) as reader:
            fills = submit(*orders)
        waits.append(reader.waits)
        return fills

    monkeypatch.setattr(desk.job.desk, "submit", submit_beside_a_reader)
    desk.job.step()
    assert waits.count(3) == 2, "the orders of the decision, and its stops"
    assert set(stops_at(here)) == {"SYA", "SYB"}


def test_filled_stop_is_reported_once_across_kills(practice: Start, tmp_path: Path) -> None:
    here = practice("symbols=[SYA,SYB]", bars=crashed)
    here.advance(OPENING)
    with desk_at(here, tmp_path / "0"):
        here.advance(SECOND)
    for at in itertools.count():
        folder = shutil.copytree(tmp_path / "0", tmp_path / f"killed-{at}")
        desk = Desk.at(here, folder, *PLAIN, *STOPS)
        killed = False
        with suppress(Killed), mortal(at):
            killed = True
            desk.live.record_activities()
            killed = False
        desk = desk.again()
        for _ in range(3):
            desk.job.update_protection()
            desk.live.record_activities()
        assert alerts(desk).count(" SYA at $") == 1, at
        if not killed:
            return


def test_preview_observes_the_cooldown(
    practice: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_the_account(monkeypatch, tmp_path)
    here = practice("symbols=[SYA,SYB]", bars=crashed)
    here.advance(OPENING)
    folder = tmp_path / "data" / "live" / here.venue.record.account_id
    folder.mkdir(parents=True)
    words = ("symbols=[SYA,SYB]", *PLAIN, *STOPS, f"broker.url_override={here.url}")
    waiting = "SYA is not decided: its stop has filled"

    def preview() -> str:
        code, printed, said = answer_of("trade_stock_e2e", "preview", *words, "bar_wait_seconds=0")
        assert code == 0, said
        return printed

    with desk_at(here, folder) as desk:
        assert waiting not in preview()
        here.advance(SECOND)
        assert waiting in preview(), "the loop has not seen the fill yet"
        assert desk.job.run_cycle().account.cooling_symbols == {"SYA"}
        assert waiting in preview()
        here.advance(NEXT_DAY)
        assert waiting not in preview()


def rising(bars: Bars) -> Bars:
    """A coin that gains a hundredth in each bar from 2024-02-20 on."""
    values = bars.values.copy()
    rows = np.arange(len(bars.times)) - np.searchsorted(bars.times, np.datetime64("2024-02-20"))
    values[0, :, :VOLUME] *= 1.01 ** rows.clip(0)[:, None]
    return bars.__class__(bars.instruments, bars.times, values, bars.mask, bars.source)


def test_crypto_stop_trails_in_cycles_only(practice: Start, tmp_path: Path) -> None:
    coin = ("symbols=[SYXUSD]", "protect.kind=trailing", "sizing.band=0.5")
    here = practice("symbols=[SYXUSD]", bars=rising)
    with desk_at(here, tmp_path, *coin) as desk:
        for _ in range(3):
            before = stops_at(here)["SYXUSD"]
            here.advance()
            desk.job.on_snapshot(desk.broker.account())
            assert stops_at(here)["SYXUSD"] == before
            desk.job.run_cycle()
            assert (stops_at(here)["SYXUSD"].stop_price or 0) > (before.stop_price or 0)


@pytest.mark.parametrize("kind", ["late", "drop_after", "drop_before"])
def test_stop_of_unknown_outcome_reaches_the_venue_once(
    here: Practice, tmp_path: Path, kind: str
) -> None:
    desk = Desk.at(here, tmp_path, *PLAIN)
    desk.job.step()
    protected = Desk.at(here, tmp_path, *PLAIN, *STOPS)
    extra = {"seconds": 3600} if kind == "late" else {}
    here.fail(kind=kind, method="POST", path="/v2/orders", count=2, **extra)
    protected.job.update_protection()
    protected.job.update_protection()
    here.land()
    protected.job.update_protection()
    stops = stops_at(here)
    assert set(stops) == {"SYA", "SYB"}
    assert {each.state for each in protections(protected)} == {"accepted"}
    assert len(protections(protected)) == 2


def test_stops_survive_a_stop_but_not_kill(
    here: Practice, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with desk_at(here, tmp_path) as desk:
        desk.stop.request_stop("SIGTERM")
        finish_jobs([desk.job], desk.live.account, desk.stop)
        assert set(stops_at(here)) == {"SYA", "SYB"}
        assert "Stops that stay at the venue: 2." in capsys.readouterr().out
        desk.live.account.kill_file.touch()
        finish_jobs([desk.job], desk.live.account, desk.stop)
        assert stops_at(here) == {}
        assert "Stops that stay at the venue: 0." in capsys.readouterr().out
        desk.job.update_protection()
        assert stops_at(here) == {}, "the kill file stops every order"


def test_flattening_cancels_stops_before_it_closes(here: Practice, tmp_path: Path) -> None:
    with desk_at(here, tmp_path) as desk:
        desk.stop.flattening = True
        assert desk.job.finish(flatten=True) == []
        account = here.venue.broker.account()
        assert (account.positions, account.open_orders) == ({}, ())


def test_turning_protection_off_cancels_its_orders(here: Practice, tmp_path: Path) -> None:
    Desk.at(here, tmp_path, *PLAIN, *STOPS).job.step()
    off = Desk.at(here, tmp_path, *PLAIN)
    off.job.update_protection()
    assert stops_at(here) == {}


def test_overnight_trim_resizes_the_stops(practice: Start, tmp_path: Path) -> None:
    here = practice("symbols=[SYA,SYB]")
    here.advance(LAST_CYCLE)
    with desk_at(here, tmp_path) as desk:
        client = trading(here)
        for each in client.get_orders():
            client.cancel_order_by_id(each.id)  # type: ignore[union-attr]
        buy_up_to(here, 1.3, "SYA", "SYB")
        desk.job.update_protection()
        before = stops_at(here)
        assert set(before) == {"SYA", "SYB"}
        show(desk, 6)
        desk.job.step()
        assert gross(here) <= 2.0
        positions = here.venue.broker.account().positions
        assert {s: stop.qty for s, stop in stops_at(here).items()} == positions
        assert stops_at(here) != before


@pytest.mark.parametrize(
    "share", [0.4, *(pytest.param(x, marks=pytest.mark.slow) for x in (0.1, 0.25, 0.6, 0.85))]
)
def test_killed_replay_with_stops_resumes_unchanged(
    desk_of: Callable[..., Replay], share: float
) -> None:
    words = ("protect.kind=stop", "protect.distance=0.4%")
    whole = desk_of("whole")
    with mortal(10**9) as events:
        whole.replay(nothing, *words)
    desk = desk_of("killed")
    with mortal(round(share * len(events))), pytest.raises(Killed):
        desk.replay(nothing, *words)
    desk.replay(nothing, *words)
    assert_same(desk, whole)
    assert any("-stop-" in name for name in whole.frames()["orders"]["client_order_id"])


def test_stop_adjusted_by_a_split_still_protects(practice: Start, tmp_path: Path) -> None:
    path = tmp_path / "actions.csv"
    path.write_text("symbol,date,kind,value\nSYA,2024-02-21,split,4\n")
    raw = ("symbols=[SYA,SYB]", f"data.actions={path}", "data.adjustment=raw")
    here = practice(*raw, bars=split)
    here.advance(OPENING)
    with desk_at(here, tmp_path, *raw) as desk:
        before = stops_at(here)["SYA"]
        here.advance(NEXT_DAY)
        listed = trading(here).get_order_by_client_id(before.client_order_id)
        assert before.stop_price is not None
        assert (listed.qty, float(listed.stop_price)) == (
            str(before.qty * 4),
            before.stop_price / 4,
        )
        cycle = desk.job.run_cycle()
        assert cycle.account.uncertain_symbols == frozenset()
        after = stops_at(here)["SYA"]
        assert after.client_order_id == before.client_order_id
        assert (after.qty, after.stop_price) == (before.qty * 4, before.stop_price / 4)
        desk.step_at("2024-02-21T17:30:00Z")
        assert "SYA" not in here.venue.broker.account().positions
        assert halted_by(desk) == []
        assert f"sold {after.qty} SYA at $13.7" in alerts(desk)


def test_adjusted_stop_that_fills_first_halts_nothing(practice: Start, tmp_path: Path) -> None:
    path = tmp_path / "actions.csv"
    path.write_text("symbol,date,kind,value\nSYA,2024-02-21,split,4\n")
    raw = ("symbols=[SYA,SYB]", f"data.actions={path}", "data.adjustment=raw")
    here = practice(*raw, bars=partial(split, fall="2024-02-21T15:30"))
    here.advance(OPENING)
    with desk_at(here, tmp_path, *raw) as desk:
        before = stops_at(here)["SYA"]
        cycle = desk.step_at(NEXT_DAY)
        [sale] = [f for f in here.venue.broker.fills if f.client_order_id == before.client_order_id]
        assert -sale.qty == before.qty * 4
        assert cycle.account.uncertain_symbols == frozenset()
        assert halted_by(desk) == []
        assert f"sold {before.qty * 4} SYA at $" in alerts(desk)
        stop = desk.live.book.get(sale.client_order_id)
        assert stop is not None
        assert (stop.state, stop.progress.filled) == ("filled", -sale.qty)
        profits = {each.symbol: each for each in desk.live.account.positions.position_profits()}
        gain = 4 * sale.price - here.venue.broker.fills[0].price
        assert float(profits["SYA"].realised_profit) == pytest.approx(float(before.qty) * gain)
        desk.live.reconcile()
        assert desk.live.reconciler.holdings.positions_by_symbol()["SYA"].quantity == 0


def test_new_journal_adopts_resting_stops(practice: Start, tmp_path: Path) -> None:
    here = practice("symbols=[SYA,SYB]", bars=crashed)
    here.advance(OPENING)
    with desk_at(here, tmp_path / "damaged"):
        before = stops_at(here)
    with desk_at(here, tmp_path / "new") as desk:
        assert (halted_by(desk), stops_at(here)) == ([], before)
        assert {each.client_order_id for each in protections(desk)} == {
            stop.client_order_id for stop in before.values()
        }
        cycle = desk.step_at(SECOND)
        assert (halted_by(desk), cycle.account.cooling_symbols) == ([], {"SYA"})
        filled = desk.live.book.get(before["SYA"].client_order_id)
        assert filled is not None
        assert (filled.state, filled.progress.filled) == ("filled", before["SYA"].qty)
        assert desk.live.reconciler.holdings.positions_by_symbol()["SYA"].quantity == 0


def test_new_journal_reuses_no_id(here: Practice, tmp_path: Path) -> None:
    with desk_at(here, tmp_path / "damaged"):
        before = stops_at(here)
    for stop in before.values():
        order = trading(here).get_order_by_client_id(stop.client_order_id)
        trading(here).cancel_order_by_id(order.id)  # type: ignore[union-attr]
    with desk_at(here, tmp_path / "new") as desk:
        assert halted_by(desk) == []
        assert {each.client_order_id for each in stops_at(here).values()} == {
            stop.client_order_id.removesuffix("0") + "1" for stop in before.values()
        }
