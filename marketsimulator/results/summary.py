"""Results of a backtest: its runs, their figures, and the content of `summary.json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from execution.decision.belief_building import symbols_due_for_decision
from execution.decision.choice import Choice
from execution.decision.decision import Decision, decision_from_choices
from execution.decision.earned import Judgement
from execution.decision.protection import ProtectionSettings
from execution.decision.rebalancing import rebalance
from execution.decision.tiers import DrawdownTiers
from execution.decision.trader import Decider, Trader
from execution.decision.watch import WatchSettings
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.orders import DEFAULT_SIZE_LIMITS, OrderSizeLimits
from forecasting.evidence import error_share
from forecasting.forecast import NO_FORECAST, Progress, is_calibrated
from forecasting.settings import RANDOM_WALK_KIND
from foundation.arrays import Array, Instants, Mask
from foundation.formatting import allows_annual_figures, format_earned
from marketsimulator.results.attribution import attribute_run_profit
from marketsimulator.results.benchmark import Benchmark
from marketsimulator.results.figures import account_figures, fill_figures, return_contributions
from marketsimulator.results.forecast_outcomes import coverage_remarks
from marketsimulator.results.metrics import (
    Performance,
    RelativePerformance,
    count_periods_per_year,
    daily_equity_curve,
    daily_returns,
    largest_drawdown,
    measure_performance,
    relative_performance,
    wipeout_date,
)
from marketsimulator.results.remarks import (
    baseline_remarks,
    broker_event_remarks,
    buy_and_hold_remarks,
    cost_remarks,
    daily_bar_remarks,
    data_warning_remarks,
    delisting_remarks,
    describe_price_adjustment,
    fee_remarks,
    hindsight_remarks,
    live_account_remarks,
    no_trade_remarks,
    position_limit_remarks,
    protection_remarks,
    same_trades_remarks,
    sample_size_remarks,
    short_lookback_remarks,
    sizing_failure_remarks,
    small_order_remarks,
    uncalibrated_remarks,
    undecided_symbol_remarks,
    universe_remarks,
    unused_forecast_file_remarks,
    unused_sizing_remarks,
)
from marketsimulator.results.significance import (
    alpha_beta_intervals,
    bootstrap_intervals,
    deflated_sharpe_remarks,
    measure_outperformance,
    skill_figures,
)
from marketsimulator.results.trial_identity import data_hash, make_trial
from marketsimulator.results.trials import TRIALS_OFF_NOTE, Trial
from marketsimulator.results.verdict import BUY_AND_HOLD as BUY_AND_HOLD
from marketsimulator.results.verdict import RANDOM_WALK as RANDOM_WALK
from marketsimulator.results.verdict import no_evidence_reason
from marketsimulator.run_result import Run, premium_share
from marketsimulator.runs.outcome import VariantOutcome
from marketsimulator.runs.simulate import simulate_trading
from marketsimulator.settings import BacktestSettings
from sizing.quantity import truncate_to_increment
from trainingdata.bars import Bars
from trainingdata.instants import format_utc, new_york_date
from trainingdata.market import Market

ACCOUNT_FIGURES = (  # figures of an account, undefined for a benchmark that is not traded
    *("turnover", "mean_leverage", "max_leverage", "time_invested", "premium_share"),
    *("costs", "interest", "trades"),
)


@dataclass(frozen=True, slots=True)
class BacktestResults:
    """Main run of a backtest and its benchmarks.

    settings: settings of the main run.
    market: market of all runs.
    main_run: run of the configured trader.
    benchmark_runs: benchmark runs: the no-forecast baseline and buy and hold.
    elapsed_seconds: elapsed time, seconds.
    trial_count: number of all trials on these data, with this run; None without a ledger.
    no_ledger_note: remark for runs without a ledger.
    hardware_description: device of the main run's model
        (`forecasting.settings.format_computation_device`).
    title: kind of the main run, such as "Backtest".
    other_holdings: symbols with a position of the live account outside the run, at the end.
    decision_bar_run: run of the same trader with fills on the decision bars; None without finer
        bars.
    benchmark: benchmark chosen by the user; None: buy and hold.
    judgement: what the main run's forecasts have earned at each instant; None if not judged.
    """

    settings: BacktestSettings
    market: Market
    main_run: Run
    benchmark_runs: tuple[Run, ...]
    elapsed_seconds: float
    trial_count: int | None = None
    no_ledger_note: str = TRIALS_OFF_NOTE
    hardware_description: str = ""
    title: str = "Backtest"
    other_holdings: tuple[str, ...] = ()
    decision_bar_run: Run | None = None
    benchmark: Benchmark | None = None
    judgement: Judgement | None = None

    @property
    def runs(self) -> tuple[Run, ...]:
        return (self.main_run, *self.benchmark_runs)

    @property
    def has_crypto(self) -> bool:
        """Return whether the universe contains crypto; days are then calendar days."""
        return bool(self.market.bars.crypto.any())

    def to_trial(self) -> Trial:
        """Return the main run as an entry of the trial ledger."""
        found = self.performance(self.main_run)
        return make_trial(
            *(self.settings, self.market, data_hash(self.market), self.main_run.name),
            days=found.days,
            daily_sharpe=found.daily_sharpe(),
            total_return=found.total_return,
        )

    def summary(self) -> dict[str, Any]:
        """Return the content of `summary.json`."""
        figures = self.run_figures(self.main_run)
        comparisons = {run.name: self.run_figures(run) for run in self.benchmark_runs}
        if self.benchmark is not None:
            comparisons[self.benchmark.name] = self._benchmark_figures()
        significance = self.significance_figures()
        sizing = self.settings.sizing
        bars = self.market.bars
        growth = self.settings.universe.ranks_by_growth
        in_universe = self._universe_mask()
        due = self.settings.decision_schedule
        ever_held = [bars.symbols[s] for s in np.flatnonzero(in_universe.any(axis=0))]
        capital = self.settings.capital
        earned = {name: part * capital for name, part in figures["contributions"].items()}
        listed = self.market.delisting_rules.explicit_delistings
        doubts = self.market.data_warnings
        reason = no_evidence_reason(self.main_run.name, bars.source)
        warnings = [
            *live_account_remarks(self.main_run, self.other_holdings),
            *data_warning_remarks(doubts),
            *delisting_remarks(
                self.main_run,
                self.market,
                earned,
                is_universe_chosen=not self.settings.universe.is_unrestricted,
            ),
            *unused_sizing_remarks(sizing),
            *short_lookback_remarks(sizing),
            *self.settings.unused_symbol_warnings(bars.symbols, (*self.market.actions, *listed)),
            *universe_remarks(
                self.settings.universe, self.market, in_universe, self.settings.data.adjustment
            ),
            *([f"No result: {reason}."] if reason else []),
            *protection_remarks(self.main_run),
            *baseline_remarks(self.settings.protect, self.settings.watch, self.settings.guards),
            *daily_bar_remarks(bars, self.settings.limits),
            *uncalibrated_remarks(
                self.main_run.name, calibrated=self.settings.forecaster.calibrated
            ),
            *unused_forecast_file_remarks(self.settings.forecaster, figures["premium_share"]),
            *hindsight_remarks(sizing, self.settings.forecaster.kind, self.main_run.name),
            *([] if growth else coverage_remarks(self.main_run, self.market, due, in_universe)),
            *sample_size_remarks(figures["trades"], figures["days"]),
            *cost_remarks(figures["total_return"] * self.settings.capital, figures["costs"]),
            *(
                remark
                for run in self.benchmark_runs
                if run.name == RANDOM_WALK
                for remark in same_trades_remarks(self.main_run, run)
            ),
            *deflated_sharpe_remarks(significance["deflated_sharpe"], significance["trials"]),
        ]
        fills = self.figures_by_fill_timeframe()
        return {
            "title": self.title,
            "strategy": sizing.strategy_label,
            "forecaster": self.main_run.name,
            "capital": capital,
            **figures,
            **significance,
            **({"fills": fills} if fills else {}),
            "wiped_out_on": self.wipeout_date(),
            "annual_figures": allows_annual_figures(figures["trades"], figures["days"]),
            "benchmark": BUY_AND_HOLD if self.benchmark is None else self.benchmark.name,
            "benchmark_text": self.benchmark_text,
            "outperformances": self.outperformances(),
            "attribution": self.attribution(),
            "evidence": self.evidence_figures(),
            "start": pd.Timestamp(self.main_run.equity_rows[0].at, tz="UTC").isoformat(),
            "end": pd.Timestamp(self.main_run.equity_rows[-1].at, tz="UTC").isoformat(),
            "symbols": list(bars.symbols),
            "other_holdings": list(self.other_holdings),
            "initial_positions": {
                symbol: {"quantity": str(held.quantity), "price": held.price}
                for symbol, held in self.main_run.initial_positions.items()
            },
            "doubts": [doubt.as_dict() for doubt in doubts],
            "data": bars.source,
            "prices": describe_price_adjustment(
                self.settings.data.adjustment, bars, doubts, self.settings.data.actions_in_file()
            ),
            "seed": self.settings.seed,
            "comparisons": comparisons,
            "warnings": warnings,
            "remarks": [
                *warnings,
                *([self.no_ledger_note] if self.trial_count is None else []),
                *no_trade_remarks(
                    self.main_run,
                    sizing.strategy if sizing.enhanced else "legacy",
                    self.settings.orders,
                ),
                *buy_and_hold_remarks(
                    self._buy_and_hold_run, self.market.run_bars, self.settings.capital
                ),
                *undecided_symbol_remarks(self.main_run, ever_held),
                *broker_event_remarks(self.main_run),
                *fee_remarks(self.main_run, self.settings.fees),
                *small_order_remarks(self.main_run, self.settings.orders),
                *sizing_failure_remarks(self.main_run),
                *position_limit_remarks(self.main_run, self.settings.limits.max_positions),
            ],
        }

    def evidence_figures(self) -> dict[str, Any] | None:
        """Return what the forecasts have earned at the end; None if they are not judged."""
        if self.judgement is None or np.isnan(self.judgement.e_value).all():
            return None
        rows = np.flatnonzero(~np.isnan(self.judgement.e_value))
        *_, e_value, bound, earned = (float(each[rows[-1]]) for each in self.judgement[1:])
        breaches = list(map(format_utc, self.judgement.breaches))
        since = str(new_york_date(self.judgement.instants[rows[:1]])[0])
        share = error_share(self.settings.sizing.earned_attempt)
        return {
            "since": since,
            "earned": earned,
            "e_value": e_value,
            "needed_e_value": 1 / share,
            "lower_bound": bound if np.isfinite(bound) else None,
            "breaches": breaches,
            "sentence": format_earned(since, earned, e_value, share, len(breaches)),
        }

    def figures_by_fill_timeframe(self) -> dict[str, dict[str, float]]:
        """Return the figures with fills on finer bars and on decision bars, by timeframe.

        Empty without finer bars.
        """
        finer = self.market.finer_bars
        if finer is None or self.decision_bar_run is None:
            return {}
        met = {
            finer.timeframe.plural_bar_text: self.main_run,
            self.market.bars.timeframe.plural_bar_text: self.decision_bar_run,
        }
        return {bars: fill_figures(run, self.settings.capital) for bars, run in met.items()}

    def wipeout_date(self) -> str | None:
        """Return the New York date of the first day that ends without equity; None if none does."""
        marks, daily = self.daily_equity_curve(self.main_run)
        return wipeout_date(marks[1:], daily)

    def outperformances(self) -> dict[str, dict[str, Any] | None]:
        """Return the main run's lead over each benchmark, with a 90 % interval, by benchmark.

        None if the two runs share no days, or if one of them ends without equity.
        """
        mine = daily_returns(self.daily_equity_curve(self.main_run)[1])
        others = {run.name: self.daily_equity_curve(run)[1] for run in self.benchmark_runs}
        if self.benchmark is not None:
            others[self.benchmark.name] = self.daily_benchmark_curve()[1]
        found: dict[str, dict[str, Any] | None] = {}
        for name, other in others.items():
            ahead = measure_outperformance(mine, daily_returns(other), seed=self.settings.seed)
            found[name] = None
            if ahead is not None:
                found[name] = {**asdict(ahead), "significant_sign": ahead.significant_sign}
        return found

    def attribution(self) -> dict[str, Any]:
        """Return the main run's profit by part, for each symbol and each hour of day, USD."""
        return attribute_run_profit(self.main_run, self.market).as_dict()

    def performance(self, run: Run) -> Performance:
        at, equity = run.equity_curve()
        return measure_performance(
            at, equity, capital=self.settings.capital, has_crypto=self.has_crypto
        )

    def run_figures(self, run: Run) -> dict[str, Any]:
        """Return all figures of one run; fractions and USD."""
        at, _ = run.equity_curve()
        outcome = VariantOutcome.from_run(run)
        return {
            **account_figures(
                at, outcome, capital=self.settings.capital, has_crypto=self.has_crypto
            ),
            **self._relative_performance(self.daily_equity_curve(run)[1]),
            "premium_share": premium_share(run),
            "contributions": return_contributions(self.market.bars, run, self.settings.capital),
            "orders": len(run.decision_log.orders),
            "incomplete_orders": run.count_incomplete_orders(),
            "margin": run.margin_event_counts,
        }

    def significance_figures(self) -> dict[str, Any]:
        """Return the main run's probabilistic and deflated Sharpe ratio and intervals of figures.

        Without a ledger the number of trials is unknown, and the deflated Sharpe ratio is None.
        """
        daily, per_year = self.daily_equity_curve(self.main_run)[1], self.periods_per_year
        return {
            **skill_figures(self.performance(self.main_run), self.trial_count),
            "intervals": {
                **bootstrap_intervals(daily_returns(daily), per_year, seed=self.settings.seed),
                **alpha_beta_intervals(
                    daily_returns(daily),
                    daily_returns(self.daily_benchmark_curve()[1]),
                    per_year,
                    seed=self.settings.seed,
                ),
            },
        }

    def _universe_mask(self) -> Mask:
        """Return whether each symbol is in the universe at the instants of the run, [T, S]."""
        rule = self.settings.universe.build_universe()
        parts = [
            rule.exclusion_rule_codes(view, view.times[begin:end]) == 0
            for begin, end, view in self.market.visible_bars_by_segment()
        ]
        return np.concatenate(parts)

    @property
    def _buy_and_hold_run(self) -> Run:
        return next(run for run in self.benchmark_runs if run.name == BUY_AND_HOLD)

    @property
    def periods_per_year(self) -> int:
        """Days per year of annual figures."""
        return count_periods_per_year(self.main_run.equity_curve()[0], has_crypto=self.has_crypto)

    @property
    def benchmark_text(self) -> str:
        """Description of the benchmark of the relative figures."""
        if self.benchmark is None:
            return "buy and hold: equal weights of all symbols, bought once, after costs"
        return self.benchmark.returns_description

    def daily_equity_curve(self, run: Run) -> tuple[Instants, Array]:
        """Return the start and the end of each day [1 + D], and a run's equity at them."""
        return self._to_daily_curve(*run.equity_curve())

    def benchmark_curve(self) -> tuple[Instants, Array]:
        """Return the instants [N] of the equity rows, and the benchmark's equity at them.

        A chosen benchmark starts with the capital of the run.
        """
        if self.benchmark is None:
            return self._buy_and_hold_run.equity_curve()
        at, _ = self.main_run.equity_curve()
        return at, self.settings.capital * self.benchmark.relative_values_at(at)

    def daily_benchmark_curve(self) -> tuple[Instants, Array]:
        """Return the start and the end of each day [1 + D], and the equity of the benchmark."""
        return self._to_daily_curve(*self.benchmark_curve())

    def equity_curves(self) -> list[tuple[Instants, Array]]:
        """Return instants and equity [N] of each run, then of the chosen benchmark."""
        curves = [run.equity_curve() for run in self.runs]
        return curves if self.benchmark is None else [*curves, self.benchmark_curve()]

    def daily_equity_curves(self) -> list[tuple[Instants, Array]]:
        """Return `equity_curves` at the start and at the end of each day, [1 + D]."""
        return [self._to_daily_curve(at, equity) for at, equity in self.equity_curves()]

    def _to_daily_curve(self, at: Instants, equity: Array) -> tuple[Instants, Array]:
        return daily_equity_curve(
            at, equity, capital=self.settings.capital, has_crypto=self.has_crypto
        )

    def _benchmark_figures(self) -> dict[str, Any]:
        """Return the figures of the chosen benchmark; those of an account are None."""
        at, equity = self.benchmark_curve()
        capital = self.settings.capital
        figures = measure_performance(at, equity, capital=capital, has_crypto=self.has_crypto)
        return {
            **figures.as_dict(),
            "max_drawdown_intraday": largest_drawdown(np.append(capital, equity)),
            **dict.fromkeys(ACCOUNT_FIGURES),
            **RelativePerformance().as_dict(),
        }

    def _relative_performance(self, daily: Array) -> dict[str, float | None]:
        """Return the performance of daily equity [1 + D] relative to the benchmark."""
        other = daily_returns(self.daily_benchmark_curve()[1])
        return relative_performance(daily_returns(daily), other, self.periods_per_year).as_dict()


def run_baselines(
    settings: BacktestSettings, trader: Trader, market: Market, progress: Progress
) -> tuple[Run, ...]:
    """Run the no-forecast baseline and buy and hold.

    The no-forecast baseline is the same trader on `forecaster=ewma`, calibrated as the trader's
    forecasts are. It is left out for a trader without forecasts. Baselines run without protective
    orders, watch and drawdown tiers.

    trader: trader of the main run; its beliefs, if any, are those at the market's instants.
    """
    settings = replace(
        settings, protect=ProtectionSettings(), watch=WatchSettings(), guards=DrawdownTiers()
    )
    deciders: dict[str, Decider] = {}
    kind = settings.forecaster.kind
    if kind == RANDOM_WALK_KIND and trader.belief_table is not None:
        deciders[RANDOM_WALK] = trader
    elif kind != NO_FORECAST:
        walk = settings.forecaster.build_random_walk(
            is_calibrated=is_calibrated(trader.forecaster.name)
        )
        deciders[RANDOM_WALK] = replace(trader, forecaster=walk).with_beliefs(market, progress)
    deciders[BUY_AND_HOLD] = BuyAndHold(settings.orders)
    return tuple(
        simulate_trading(settings, market, name, decider, progress)
        for name, decider in deciders.items()
    )


class BuyAndHold:
    """Buy-and-hold decider: equal weights, 1× gross in total, each symbol bought once.

    A purchase that did not fill is repeated. A closed position is not bought again.

    size_limits: minimum and maximum sizes of orders.
    """

    def __init__(self, size_limits: OrderSizeLimits = DEFAULT_SIZE_LIMITS) -> None:
        self.size_limits = size_limits
        self._bought: set[str] = set()

    def decide(self, bars: Bars, account: AccountSnapshot) -> Decision | None:
        """Return the purchases of all due symbols not yet bought; None if there are none."""
        equity = account.equity
        self._bought.update(account.positions)
        missing = [s for s, symbol in enumerate(bars.symbols) if symbol not in self._bought]
        if missing:
            adjustable = symbols_due_for_decision(bars)
            missing = [s for s in missing if adjustable[s]]
        if not missing or equity <= 0:
            return None
        weight = 1 / len(bars.symbols)
        # Buy and hold has neither expected returns nor binding limits: those columns are NaN.
        nan = float("nan")
        choices = []
        items = []
        largest = []
        for s in missing:
            item = bars.instruments[s]
            price = account.prices[item.symbol]
            quantity = truncate_to_increment(weight * equity / price, item.qty_increment)
            too_small = (
                float(quantity) * price < self.size_limits.min_values_when_sized(bars.crypto)[s]
            )
            if not quantity or too_small:
                continue
            choices.append(
                Choice(item.symbol, nan, nan, nan, 0.0, weight, quantity, price, {}, nan)
            )
            items.append(item)
            largest.append(self.size_limits.max_order_quantity(item, price))
        if not choices:
            return None
        orders = rebalance(
            "buy_and_hold",
            bars.last_instant,
            items,
            [Decimal(0)] * len(items),
            [choice.qty for choice in choices],
            largest,
            ["bought once and held"] * len(items),
            bars.timeframe,
        )
        return decision_from_choices(
            bars.last_instant, bars.last_instant, equity, 1.0, choices, orders
        )
