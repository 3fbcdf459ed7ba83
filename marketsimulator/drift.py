"""Compare a live journal with a simulation of the same period.

    python -m marketsimulator.drift journal=data/live/<account id>/journal.sqlite 'data.dir=[DIR]'
        [output=FOLDER] [key=value …]

Settings are those of configs/live.yaml: pass the arguments of the live run. The simulation starts
with the account of the first journaled decision and ends at the last snapshot of the account. In
addition each journaled decision is replayed on the journaled account; if the replayed decision
differs, then bars, settings or code differ. The difference between live and simulated profit is
split by order and cash flow into terms that add up to the cent.

output=FOLDER writes drift.html, and the report of the live account: the files of a backtest whose
main run is the live account, compared with its simulation, the no-forecast baseline and buy and
hold.

Orders sent after the last snapshot are counted, not compared. After the first cycle no fills are
comparable yet, and `agrees` in drift.json is null.

Exit codes: 1 if the account drifts (anything differs), 0 if not, 2 for unusable input.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("marketsimulator.drift")

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

from execution.decision.decision import Decision
from execution.decision.trader import Decider, Trader
from execution.live.accounts import TRADE_JOB
from execution.live.cycle import decision_deadline
from execution.live.settings import LiveSettings
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.orders import Fill, parse_order_prefix
from forecasting.forecast import Progress, no_progress
from forecasting.settings import format_computation_device
from foundation.cli import Result
from foundation.compose import compose_config
from foundation.decimals import ZERO_FRACTION
from foundation.errors import InputError
from foundation.files import resolve_output
from foundation.settings import setting, settings_class, settings_from_config
from marketsimulator.account.broker import SimulatedBroker
from marketsimulator.results.benchmark import read_benchmark
from marketsimulator.results.drift.decisions import compare_decisions, rebuild_account
from marketsimulator.results.drift.orders import (
    OrderComparison,
    UncomparedCounts,
    compare_orders,
    excess_slippage_by_symbol,
    planned_orders,
)
from marketsimulator.results.drift.report import (
    Drift,
    drift_json,
    drift_terminal_parts,
    render_drift_page,
)
from marketsimulator.results.drift.terms import (
    ComparedAccount,
    ProfitComponent,
    build_compared_account,
    compare_profits,
    to_exact_account,
)
from marketsimulator.results.journal_record import (
    ExactAccount,
    JournalRecord,
    read_journal,
    revalue_at_closes,
)
from marketsimulator.results.report import result_file_writers
from marketsimulator.results.run_record import LIVE_RUN_TITLE
from marketsimulator.results.summary import BacktestResults, run_baselines
from marketsimulator.run_result import InitialPosition, Run
from marketsimulator.runs.simulate import simulate_stepwise
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import Bars, build_panel, last_closes_by_symbol
from trainingdata.instants import format_utc, history_start
from trainingdata.instruments import AssetClass
from trainingdata.market import Market
from trainingdata.source import DataSettings

DRIFT_FILE = "drift.json"
LIVE_ACCOUNT_NOTE = (
    "A live account is not a trial, so earlier variants are not counted. Costs are the fees"
    " that the venue reports; spreads are included in fill prices."
)
LIVE_BARS_HINT = "give the bars that the live run used, data.dir=[DIR]"


JOURNALED_SETTINGS = ("capital", "positions")  # account settings that the journal itself determines


@settings_class()
class DriftOptions:
    """Settings of a drift report: the journal, and the folder of the report."""

    journal: str | None = setting(
        None, "journal of the live account, the file data/live/ACCOUNT/journal.sqlite"
    )
    output: str | None = setting(
        None, "folder for the report of the live account; null: none is written"
    )


DRIFT_OPTION_NAMES = {field.name for field in fields(DriftOptions)}


@dataclass(frozen=True, slots=True)
class DriftSettings:
    """Settings of a drift report.

    journal_path: journal file of the live account.
    history_days: calendar days of bars that the live run had before its first decision.
    simulation_settings: settings of the live run, converted to settings of a backtest.
    writes_report: true to write the complete report of the live account.
    """

    journal_path: Path
    history_days: int
    simulation_settings: BacktestSettings
    writes_report: bool = False

    @classmethod
    def from_config(cls, config: DictConfig) -> DriftSettings:
        """Validate a composed configuration and return its settings."""
        words = settings_from_config(
            DriftOptions, OmegaConf.masked_copy(config, sorted(DRIFT_OPTION_NAMES))
        )
        if not words.journal:
            raise InputError("journal: not set; give the journal.sqlite file of an account")
        if config.get("start") is not None:
            raise InputError(
                f"start: {config.start}: not supported; the comparison starts at the journal's"
                " first decision. Remove start, and use end to shorten the comparison"
            )
        live = LiveSettings.from_config(config)
        names = {field.name for field in fields(BacktestSettings)} - DRIFT_OPTION_NAMES
        config = OmegaConf.masked_copy(config, sorted(names))
        config.guards = {"tiers": config.guards.tiers}  # others check orders of a live account
        simulation = BacktestSettings.from_config(config)
        return cls(Path(words.journal).expanduser(), live.effective_history_days, simulation)


class _RecordingDecider:
    """Decider that wraps another one and records the account before its last decision.

    It makes no decision after the instant `until`.

    account: account at the last decision, before its orders.
    fills, bookings: number of fills and bookings before that decision.
    """

    def __init__(self, decider: Decider, broker: SimulatedBroker, until: np.datetime64) -> None:
        self._decider = decider
        self._broker = broker
        self._until = until
        self.account = broker.account()
        self.fills = 0
        self.bookings = 0

    def decide(self, bars: Bars, account: AccountSnapshot) -> Decision | None:
        """Record the account and return the wrapped decider's decision; None after `until`."""
        if bars.last_instant > self._until:
            return None
        self.account = account
        self.fills = len(self._broker.fills)
        self.bookings = len(self._broker.bookings)
        return self._decider.decide(bars, account)


@dataclass(frozen=True, eq=False, slots=True)
class LiveSimulation:
    """A live account, and the simulation of the same account over the same period.

    journal_path: path of the journal.
    journal_record: content of the journal.
    start_account, end_account: first and last account snapshot of the comparison.
    simulation_settings: settings of the simulation.
    market: bars that the live run knew, and bars with which its orders are matched.
    trader: trader of the simulation.
    simulated_run: simulated run; it starts with the account of the first live decision.
    simulated_account: simulated account up to the last live snapshot.
    decision_instants_by_order_id: decision instant of each simulated order sent before that
        snapshot, by order id.
    live_run: run of the live account, with the figures that its venue reports.
    """

    journal_path: Path
    journal_record: JournalRecord
    start_account: ExactAccount
    end_account: ExactAccount
    simulation_settings: BacktestSettings
    market: Market
    trader: Trader
    simulated_run: Run
    simulated_account: ComparedAccount
    decision_instants_by_order_id: Mapping[str, np.datetime64]
    live_run: Run

    @classmethod
    def from_settings(
        cls, settings: DriftSettings, progress: Progress = no_progress
    ) -> LiveSimulation:
        """Read a journal and simulate the period that it covers."""
        record = read_journal(settings.journal_path, TRADE_JOB)
        simulation = settings.simulation_settings
        if not simulation.symbols:
            simulation = replace(simulation, symbols=record.symbols)
        _refuse_other_names(record, simulation)
        bars = simulation.load_bars()
        start = record.first_account_snapshot()
        end = record.last_covered_snapshot(lambda at: has_all_bars_until(bars, at))
        if end.observed_at == start.observed_at and len(record.decisions) > 1:
            raise InputError(
                f"data.dir: the bars ({bars.source}) end at {format_utc(bars.last_instant)},"
                f" before the orders of the first decision could fill; {LIVE_BARS_HINT}"
            )
        decided = record.decisions[0].at
        since = history_start(start.observed_at, settings.history_days)
        market = market_between(simulation.data, bars, decided, since, end.observed_at)
        forecaster = simulation.forecaster.build(bars.symbols)
        trader = simulation.build_trader(forecaster).with_beliefs(market, progress)
        trader = _with_journaled_evidence(trader, record)
        simulated = simulate_account(simulation, market, trader, record, end, progress)
        live = record.build_run(forecaster.name, start, end, bars.symbols)
        parts = settings.journal_path, record, start, end, simulation, market, trader
        return cls(*parts, *simulated, live)


def _with_journaled_evidence(trader: Trader, record: JournalRecord) -> Trader:
    """Return the trader with the fractions that the forecast had earned at the live decisions.

    They belong to the account, as its highest equity does: a missed decision changes all later
    ones.
    """
    table = trader.belief_table
    if table is None or trader.sizing.earned is not True:
        return trader
    known = zip(table.instants, table.earned.tolist(), strict=True)
    earned = np.array([record.earned_fractions.get(at, share) for at, share in known])
    return replace(trader, belief_table=table._replace(earned=earned))


def measure_drift(simulation: LiveSimulation, progress: Progress = no_progress) -> Drift:
    """Compare decisions, orders and profit of the live account with those of its simulation."""
    record, start, end = simulation.journal_record, simulation.start_account, simulation.end_account
    simulated = simulation.simulated_account
    bars = simulation.market.bars
    live, orders, components = compare_accounts(
        record,
        (start, end),
        simulation.live_run,
        simulated,
        simulation.decision_instants_by_order_id,
        bars,
    )
    anew, closes = _replay_decisions(simulation, progress)
    return Drift(
        source_description=f"{simulation.journal_path}; {', '.join(bars.symbols)}: {bars.source}",
        start=start.observed_at,
        end=end.observed_at,
        live_account=live,
        simulated_account=simulated,
        profit_components=components,
        decision_comparison=compare_decisions(
            record,
            anew,
            closes,
            simulation.simulated_run.decisions,
            partial(decision_deadline, bars),
        ),
        order_comparisons=orders,
        excess_slippage_bps=excess_slippage_by_symbol(orders),
        uncompared_counts=UncomparedCounts.from_journal(record, TRADE_JOB, end.observed_at),
    )


def compare_accounts(
    record: JournalRecord,
    snapshots: tuple[ExactAccount, ExactAccount],
    live_run: Run,
    simulated: ComparedAccount,
    decided_at: Mapping[str, np.datetime64],
    bars: Bars,
) -> tuple[ComparedAccount, tuple[OrderComparison, ...], dict[ProfitComponent, Fraction]]:
    """Compare a live account with a simulated one; return the live account, orders and terms.

    The terms are live profit less simulated profit by cause, USD.

    snapshots: first and last account snapshot.
    decided_at: decision instant of each simulated order, by id.
    """
    start, end = snapshots
    meant = planned_orders(record, TRADE_JOB, start.observed_at, end.observed_at)
    transfers = record.net_deposits(start.observed_at, end.observed_at)
    live = build_compared_account(live_run, start, end, meant, simulated.end_marks, transfers)
    until = partial(decision_deadline, bars)
    orders = compare_orders(live.trades, simulated.trades, record, decided_at, until)
    causes = {order.name: order.outcome for order in orders if order.outcome != "same"}
    return live, orders, compare_profits(live, simulated, causes)


def _refuse_other_names(record: JournalRecord, settings: BacktestSettings) -> None:
    """Refuse settings whose order tag (prefix of order ids) no order in the journal has."""
    names = {
        parse_order_prefix(intent.client_order_id)
        for intent in record.intents.values()
        if intent.job == TRADE_JOB
    }
    if names and settings.order_prefix not in names:
        raise InputError(
            f"order_tag: the journal has no order with prefix {settings.order_prefix}; its"
            f" prefixes are {', '.join(sorted(names))}"
        )


def has_all_bars_until(bars: Bars, at: np.datetime64) -> bool:
    """Return whether `bars` include every bar that started before an instant.

    If they do not, some orders sent by that instant have no bars to be matched with.
    """
    latest: dict[AssetClass, np.datetime64] = {}
    for s, item in enumerate(bars.instruments):
        times = bars.bars_of_symbol(s)[0]
        if len(times):
            latest[item.kind] = max(latest.get(item.kind, times[-1]), times[-1])
    # A bar that starts at the instant has not started before it.
    before = np.array([at - np.timedelta64(1, "ns")])
    for kind, last in latest.items():
        clock = bars.clock(kind)
        end = clock.ends_by_number(clock.count_ended_bars(before) + 1, before)
        if last < end[0] and clock.starts_by_end(end)[0] < at:
            return False
    return True


def market_between(
    data: DataSettings, bars: Bars, begin: np.datetime64, since: np.datetime64, end: np.datetime64
) -> Market:
    """Return the market with the bars that the live run knew or that can fill its orders.

    begin: first instant of the run.
    since, end: bars that start in [since, end) are included.
    """
    tables = []
    for s, item in enumerate(bars.instruments):
        times, values = bars.bars_of_symbol(s)
        opened = bars.clock(item.kind).starts_by_end(times)
        kept = (opened >= since) & (opened < end)
        tables.append((item, times[kept], values[kept]))
    bars = build_panel(tables, bars.source, bars.timeframe)
    first = int(np.searchsorted(bars.times, begin))
    if first == len(bars.times) or bars.times[first] != begin:
        raise InputError(
            f"data.dir: the bars ({bars.source}) have no bar that ends at {format_utc(begin)},"
            f" the journal's first decision; {LIVE_BARS_HINT}"
        )
    return data.with_finer_bars(data.build_market(bars, first))


def simulate_account(
    settings: BacktestSettings,
    market: Market,
    decider: Decider,
    record: JournalRecord,
    end: ExactAccount,
    progress: Progress,
) -> tuple[Run, ComparedAccount, dict[str, np.datetime64]]:
    """Simulate an account that starts with the positions and cash of the live account.

    Returns the complete run, the simulated account at the last live snapshot `end`, and the
    decision instant of each order sent before that snapshot, by order id. Charges at the time of
    the snapshot are included in the account only if the venue had listed them by then.
    """
    start = record.first_account_snapshot()
    closes = last_closes_by_symbol(market.initial_history)
    positions = record.decisions[0].positions
    cash = start.cash
    for symbol, quantity in start.positions.items():
        # Positions that are not simulated keep a constant value.
        cash += ZERO_FRACTION if symbol in closes else quantity * start.prices[symbol]
    initial_account = AccountSnapshot(
        cash=float(cash),
        positions={symbol: held for symbol, held in positions.items() if symbol in closes},
        prices=closes,
        as_of=market.initial_history.last_instant,
    )
    broker = settings.build_broker(market, initial_account)
    witness = _RecordingDecider(decider, broker, end.observed_at)
    run = simulate_stepwise(settings, market, "simulation", witness, broker, progress)
    met = {
        symbol: InitialPosition(held, closes[symbol])
        for symbol, held in initial_account.positions.items()
    }
    run = replace(run, initial_positions=met)
    last = witness.account.as_of
    ends = witness.account
    fills = run.fills[: witness.fills]
    sent = [decision for decision in run.decisions if decision.at < last]
    if record.is_decision_sent_before(last, end):
        fills = [fill for fill in run.fills if fill.booked_at <= last]
        sent = list(run.decisions)
        (row,) = [row for row in run.equity_rows if row.at == last]
        ends = replace(
            ends, cash=row.cash, positions=_positions_after_fills(initial_account, fills)
        )
    remaining = replace(
        run,
        fills=fills,
        equity_rows=[row for row in run.equity_rows if row.at < last],
        bookings=[
            booking
            for k, booking in enumerate(run.bookings)
            if booking.at < last or (k < witness.bookings and last < end.observed_at)
        ],
    )
    orders = [(decision.at, order) for decision in sent for order in decision.orders]
    orders += [each for each in run.protective_orders if sent and each[0] <= sent[-1].at]
    readings = to_exact_account(initial_account), to_exact_account(ends)
    side = build_compared_account(remaining, *readings, [order for _, order in orders])
    return run, side, {order.client_order_id: at for at, order in orders}


def _positions_after_fills(begins: AccountSnapshot, fills: Iterable[Fill]) -> dict[str, Decimal]:
    """Return the signed positions, by symbol, of an account after these fills.

    begins: account before the fills.
    """
    held = dict(begins.positions)
    for fill in fills:
        held[fill.symbol] = held.get(fill.symbol, Decimal(0)) + fill.qty
    return {symbol: quantity for symbol, quantity in held.items() if quantity}


def _replay_decisions(
    hours: LiveSimulation, progress: Progress
) -> tuple[dict[np.datetime64, Decision | None], dict[np.datetime64, dict[str, float]]]:
    """Replay the journaled decisions, each on the account that the journal has for it.

    Returns the replayed decisions and the last closes (USD by symbol), both by decision instant.
    """
    record, settings, market = hours.journal_record, hours.simulation_settings, hours.market
    decisions: dict[np.datetime64, Decision | None] = {}
    closes = {}
    compared = [
        decision for decision in record.decisions if decision.at <= hours.end_account.observed_at
    ]
    for number, journaled in enumerate(compared, 1):
        at = journaled.at
        view = market.visible_bars(int(np.searchsorted(market.bars.times, at, side="right")))
        closes[at] = last_closes_by_symbol(view)
        account = rebuild_account(record, journaled, settings, closes[at])
        account = settings.guards.apply(account, record.highest_equity_before(journaled))
        decisions[at] = hours.trader.decide(view, account) if view.last_instant == at else None
        progress("repeated decisions", number, len(compared))
    return decisions, closes


def build_live_results(
    simulation: LiveSimulation, progress: Progress = no_progress
) -> BacktestResults:
    """Return the results of the live run in the form of a backtest.

    Its benchmarks are its simulation, the no-forecast baseline and buy and hold.
    """
    begun = time.monotonic()
    market = simulation.market.with_bars(
        simulation.market.bars.slice_until(simulation.end_account.observed_at)
    )
    live = revalue_at_closes(simulation.live_run, market)
    capital = live.equity_rows[0].equity
    if capital <= 0:
        raise InputError(
            f"journal: the account's equity was {capital:,.2f} USD, so returns are"
            " undefined; equity must be above 0"
        )
    settings = replace(simulation.simulation_settings, capital=capital)
    simulated = simulation.simulated_run.slice_until(market.bars.last_instant)
    # The beliefs of the trader cover more instants than this market.
    trader = replace(simulation.trader, belief_table=None)
    plain = run_baselines(settings, trader, market, progress)
    return BacktestResults(
        settings=settings,
        market=market,
        main_run=live,
        benchmark_runs=(simulated, *plain),
        elapsed_seconds=time.monotonic() - begun,
        no_ledger_note=LIVE_ACCOUNT_NOTE,
        title=LIVE_RUN_TITLE,
        other_holdings=tuple(
            sorted(set(simulation.end_account.positions) - set(market.bars.symbols))
        ),
        hardware_description=format_computation_device(simulation.trader.forecaster),
        benchmark=read_benchmark(settings, market),
    )


def parse_arguments(words: Sequence[str]) -> tuple[DriftSettings, Path | None]:
    """Parse the command line; return the settings and the folder of the report.

    The folder is None if no report of the live account was requested.
    """
    for word in words:
        key = word.lstrip("+~").partition("=")[0]
        if key.partition(".")[0] in JOURNALED_SETTINGS:
            raise InputError(
                f"{key}: cannot be set, because the account comes from the journal; remove it"
            )
    config = compose_config("drift", ["trials=null", *words])
    settings = DriftSettings.from_config(config)
    output = None if config.output is None else resolve_output(config, DRIFT_FILE)
    return replace(settings, writes_report=output is not None), output


def run(settings: DriftSettings, progress: Progress) -> Result:
    """Measure the drift; return its tables and files, and exit code 1 if the account drifts."""
    hours = LiveSimulation.from_settings(settings, progress)
    drift = measure_drift(hours, progress)
    files: Mapping[str, Callable[[Path], object]] = {}
    if settings.writes_report:
        results = build_live_results(hours, progress)
        page = render_drift_page(drift, [run.equity_curve() for run in results.runs[:2]])
        more: dict[str, Callable[[Path], object]] = {
            "drift.html": lambda path: path.write_text(page, encoding="utf-8"),
            DRIFT_FILE: lambda path: path.write_text(drift_json(drift)),
        }
        files = result_file_writers(results, results.summary(), more)
    return Result(
        list(drift_terminal_parts(drift)), file_writers=files, exit_code=0 if drift.is_equal else 1
    )
