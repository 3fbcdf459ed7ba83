"""Report how many contracts of an option spread the configured account should sell now.

    python -m option_spreads.contracts [LIVE|PAPER] …    balance, statistics, Kelly, size, risk
    python -m option_spreads.contracts init …            create an account
    python -m option_spreads.contracts recover …         rebuild its balance from its trades
    python -m option_spreads.contracts review …          compare the last month with a Monte Carlo

Settings are those of configs/autoscaling.yaml, in that file or in the environment.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("option_spreads.contracts")

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from foundation.arrays import Array
from foundation.cli import Result
from foundation.clock import utc_now
from foundation.compose import compose_config, is_override
from foundation.errors import InputError, invalid_choice_error
from foundation.formatting import (
    MIN_FILLS_FOR_ANNUAL_FIGURES,
    format_count,
    format_number,
    format_usd,
)
from foundation.notifier import Notifier
from foundation.tables import Table
from option_spreads.autoscaler.account import TRADES_FILE, AccountFiles, AccountState
from option_spreads.autoscaler.contract_sizing import ContractSizing, size_contracts
from option_spreads.autoscaler.rules import (
    WIDTH_POINTS_BY_STRATEGY,
    AutoscalingSettings,
    compute_max_risk,
    recommend_max_contracts,
)
from option_spreads.simulation.resampled_accounts import format_resampling_caveat, simulate_accounts
from option_spreads.simulation.resampling import UNITS_PER_DOLLAR
from option_spreads.simulation.settings import MonteCarloSettings
from option_spreads.simulation.trade_sample import (
    TradeRow,
    TradeSample,
    build_sample,
    read_closed_trades,
)
from trainingdata.instants import new_york_date
from trainingdata.sessions import exchange_calendar

# Usual credits, in points, for the risk table.
TYPICAL_CREDITS = {"CALL": 2.5, "PUT": 2.5, "IRON_CONDOR": 2.7, "OTM_SINGLE_SIDED": 1.0}
STARTING_CAPITAL_KEY = "STARTING_CAPITAL"
ACCOUNT_TASKS = ("init", "recover", "review")
REVIEW_LOOKBACK_SESSIONS = 21  # sessions of a month
PROFIT_RANGE_PERCENTILES = (5.0, 95.0)  # percentiles of the 90 % range
UNLIMITED_CAPITAL = 1e9  # USD; more than any run of single contracts can lose
REVIEW_SCHEME_LABELS = {
    "iid": "one by one",
    "block": "in blocks of a week",
    "stress": "with maximum losses",
}


def calculate_position_size(
    account_balance: float | None = None,
    max_risk_per_contract: float | None = None,
    mode: str = "PAPER",
    verbose: bool = True,
) -> int:
    """Return the number of contracts of the next spread, by half-Kelly on closed trades.

    The result is between 1 and MAX_CONTRACTS, or 0 as described below. KELLY_FRACTION=1 sizes by
    full Kelly.

    Parameters
    ----------
    account_balance
        USD; by default it is read from the account's files. The trades are read in any case.
        Without files, a given balance means an account without trades.
    max_risk_per_contract
        USD that one contract can lose (`get_max_risk_for_strategy`); by default
        STOP_LOSS_PER_CONTRACT, which defaults to 800.
    mode
        account: `PAPER` or `LIVE`.
    verbose
        true to log the lines that operators grep for; without a log handler they are printed.

    Returns
    -------
    int
        number of contracts; 0 in a safety halt, and if the account's files are unreadable or
        inconsistent. Both cases are logged as errors and sent to ALERT_URL.

    Raises
    ------
    InputError
        for an argument or a setting that cannot be used.
    """
    settings = load_autoscaling_settings()
    files = AccountFiles.from_settings(settings, mode)
    risk = max_risk_per_contract
    if risk is None:
        risk = settings.STOP_LOSS_PER_CONTRACT
    with Notifier(None, settings.ALERT_URL) as notices:
        count = size_contracts(files, settings, risk, notices, account_balance, verbose=verbose)
    return count.contracts


def get_max_risk_for_strategy(
    strategy: str, entry_credit: float, width: float | None = None
) -> float:
    """Return the USD that one contract of a strategy can lose: (width − credit) · 100.

    Parameters
    ----------
    strategy
        CALL, PUT, IRON_CONDOR or OTM_SINGLE_SIDED (IC, OTM-SS).
    entry_credit
        points received for one contract.
    width
        points of one side; 5 by default, 10 for OTM_SINGLE_SIDED. `CONDOR_RISK=table` returns 250
        for a condor of width 5, as the earlier system's table does.

    Raises
    ------
    InputError
        for an unknown strategy, and for a credit that does not fit the width.
    """
    return compute_max_risk(strategy, entry_credit, width, load_autoscaling_settings().CONDOR_RISK)


@dataclass(frozen=True, eq=False, slots=True)
class MonthlyReview:
    """Comparison of an account's last month with a Monte Carlo, at one contract per trade.

    first_date, last_date: New York dates of the month's first and last session.
    trade_count: number of closed trades that were entered in the month.
    profit_per_contract: total P/L of the month's trades at one contract each, USD.
    earlier_trade_count: number of closed trades before the month, which the Monte Carlo resamples.
    simulated_profits_by_scheme: simulated total P/L over the same number of sessions, USD [R], by
        resampling scheme: `iid`, `block` or `stress`.
    resampling_caveat: sentence on what resampling cannot show.
    """

    first_date: np.datetime64
    last_date: np.datetime64
    trade_count: int
    profit_per_contract: float
    earlier_trade_count: int
    simulated_profits_by_scheme: Mapping[str, Array]
    resampling_caveat: str

    def profit_percentile(self, resampling_scheme: str) -> float:
        """Return the percentile of the month's P/L among the simulated P/L; ties count half.

        resampling_scheme: resampling scheme: `iid`, `block` or `stress`.
        """
        runs = self.simulated_profits_by_scheme[resampling_scheme]
        below, equal = (
            (runs < self.profit_per_contract).mean(),
            (runs == self.profit_per_contract).mean(),
        )
        return float(100 * (below + equal / 2))


def review_month(path: Path, settings: AutoscalingSettings, now: np.datetime64) -> MonthlyReview:
    """Compare trades of the last 21 sessions with a Monte Carlo of earlier trades.

    Every trade counts as one contract, so that position sizes have no effect.

    path: path of trades.csv.
    now: the present instant.

    Raises InputError if a trade has no entry time, if the month has no trade, or if there are fewer
    than 30 trades before the month.
    """
    today = new_york_date(np.array([now]))[0]
    dates = exchange_calendar().dates
    dates = dates[dates <= today][-REVIEW_LOOKBACK_SESSIONS:]
    trades = read_closed_trades(path, now)
    if any(trade.entry_time is None for trade in trades):
        raise InputError(
            f"{path}: a closed trade has no Timestamp_ET; review needs it for every closed trade"
        )
    entered = new_york_date(
        np.array([trade.entry_time for trade in trades], dtype="datetime64[ns]")
    )
    month = [trade for trade, day in zip(trades, entered, strict=True) if day >= dates[0]]
    before = [trade for trade, day in zip(trades, entered, strict=True) if day < dates[0]]
    if not month:
        raise InputError(
            f"{path}: no closed trade was opened from {dates[0]} to {dates[-1]}; there is"
            " nothing to review"
        )
    if len(before) < MIN_FILLS_FOR_ANNUAL_FIGURES:
        raise InputError(
            f"{path}: review needs at least {MIN_FILLS_FOR_ANNUAL_FIGURES} closed trades before"
            f" {dates[0]}, but the file has {len(before)}; review a later month"
        )
    sample = build_sample(before)
    options = MonteCarloSettings(
        STARTING_CAPITAL=UNLIMITED_CAPITAL,
        SAFETY_HALT_PCT=0.0,
        AUTOSCALING_ENABLED=False,
        FEE_PER_CONTRACT=settings.FEE_PER_CONTRACT,
        days=len(dates),
    )
    return MonthlyReview(
        first_date=dates[0],
        last_date=dates[-1],
        trade_count=len(month),
        profit_per_contract=_sum_profits(month, settings),
        earlier_trade_count=len(before),
        simulated_profits_by_scheme=_simulate_profits(sample, options),
        resampling_caveat=format_resampling_caveat(sample),
    )


def _sum_profits(trades: list[TradeRow], settings: AutoscalingSettings) -> float:
    """Return the total P/L of trades at one contract each, USD, after FEE_PER_CONTRACT for each."""
    fee = Fraction(str(settings.FEE_PER_CONTRACT))
    return float(sum((trade.profit - fee for trade in trades), Fraction(0)))


def _simulate_profits(sample: TradeSample, options: MonteCarloSettings) -> dict[str, Array]:
    sets = simulate_accounts(sample, options)
    return {
        name: np.rint((runs.balances[:, -1] - runs.starting_balance) * UNITS_PER_DOLLAR)
        / UNITS_PER_DOLLAR
        for name, runs in sets.items()
    }


def render_review(review: MonthlyReview) -> Iterator[RenderableType]:
    """Yield the verdict, a table of percentiles by resampling scheme, and a note on resampling."""
    yield Text(format_verdict(review))
    rows = []
    for name, runs in review.simulated_profits_by_scheme.items():
        low, middle, high = np.percentile(
            runs, [PROFIT_RANGE_PERCENTILES[0], 50, PROFIT_RANGE_PERCENTILES[1]]
        )
        figures = (format_usd(value, 2, sign=True) for value in (low, middle, high))
        rows.append(
            (REVIEW_SCHEME_LABELS[name], *figures, format_number(review.profit_percentile(name), 0))
        )
    heads = ("runs", "5 %", "median", "95 %", "percentile of the month")
    title = (
        f"{format_count(review.earlier_trade_count, 'trade')} before {review.first_date}, resampled"
    )
    yield Table(title, heads, rows)
    yield Text(f"USD, with one contract per trade. {review.resampling_caveat}")


def format_verdict(review: MonthlyReview) -> str:
    """Return a sentence with the month's P/L and its percentile among block bootstrap runs.

    The sentence also states whether the P/L is within the 90 % range of those runs.
    """
    place = review.profit_percentile("block")
    inside = PROFIT_RANGE_PERCENTILES[0] <= place <= PROFIT_RANGE_PERCENTILES[1]
    return (
        f"Last {REVIEW_LOOKBACK_SESSIONS} sessions, {review.first_date} to {review.last_date}:"
        f" {format_count(review.trade_count, 'trade')},"
        f" {format_usd(review.profit_per_contract, 2, sign=True)} per contract, at percentile"
        f" {format_number(place, 0)} of the Monte Carlo: {'within' if inside else 'outside'} its"
        " 90 %"
        " range."
    )


def load_autoscaling_settings(*overrides: str) -> AutoscalingSettings:
    """Load the settings of configs/autoscaling.yaml.

    The environment and `key=value` overrides take precedence over the file.
    """
    return AutoscalingSettings.from_config(compose_config("autoscaling", list(overrides)))


def build_account_result(
    files: AccountFiles, settings: AutoscalingSettings, opening_sentences: Sequence[str]
) -> Result:
    """Return a report of an account: balance, trade statistics and contracts of each strategy.

    opening_sentences: sentences that the report shows first.
    """
    state = files.read_account()
    # The fifth line is the size for one risk; the table has the size for each strategy's own risk.
    lines = ContractSizing.from_account_state(
        state, settings.STOP_LOSS_PER_CONTRACT, settings
    ).log_lines[:4]
    rows = []
    for strategy, width in WIDTH_POINTS_BY_STRATEGY.items():
        credit = TYPICAL_CREDITS[strategy]
        risk = compute_max_risk(strategy, credit, condor_risk=settings.CONDOR_RISK)
        count = ContractSizing.from_account_state(state, risk, settings).contract_count
        figures = f"{width:g}", f"{credit:.2f}", f"${risk:,.0f}", str(count.contracts)
        rows.append((strategy, *figures, count.reason))
    heads = ("strategy", "width", "credit", "max risk", "contracts", "why")
    table = Table(f"{files.mode} account, {files.folder}", heads, rows, left_aligned_columns=(5,))
    balance = float(state.conservative_balance)
    advice = (
        f"A balance of ${balance:,.0f} supports up to"
        f" {format_count(recommend_max_contracts(balance), 'contract')}; MAX_CONTRACTS is"
        f" {settings.MAX_CONTRACTS}."
    )
    return Result([*opening_sentences, *lines, table], [advice])


def build_review_result(files: AccountFiles, settings: AutoscalingSettings) -> Result:
    """Return a report that compares last month's trades with a Monte Carlo of earlier trades."""
    files.read_account()
    found = review_month(files.folder / TRADES_FILE, settings, utc_now())
    return Result(list(render_review(found)))


def _format_written_files(files: AccountFiles, state: AccountState) -> str:
    """Return a sentence with the paths of the written files, the balance and the trade count."""
    return (
        f"Written: {files.balance_file} and {files.folder / TRADES_FILE}; {files.mode} account,"
        f" ${float(state.balance):,.2f}: STARTING_CAPITAL and"
        f" {format_count(len(state.trade_profits), 'trade')}."
    )


@dataclass(frozen=True, slots=True)
class AccountRequest:
    """Parsed command line of `option_spreads.contracts`.

    mode: account, `PAPER` or `LIVE`.
    task: `init`, `recover` or `review`; empty to show the account.
    settings: settings with the overrides of the command line.
    """

    mode: str
    task: str
    settings: AutoscalingSettings


def parse_arguments(words: Sequence[str]) -> tuple[AccountRequest, None]:
    """Parse the command line into account, task and settings.

    The second element of the result is None, because the command has no output folder.

    Raises InputError for unknown words, for two accounts or tasks, and for `recover LIVE` without
    STARTING_CAPITAL.
    """
    named = [word for word in words if not is_override(word)]
    modes = [word for word in named if word.upper() in ("PAPER", "LIVE")]
    tasks = [word for word in named if word in ACCOUNT_TASKS]
    for word in named:
        if word not in (*modes, *tasks):
            known = (*ACCOUNT_TASKS, "PAPER", "LIVE")
            raise invalid_choice_error(
                "word", word, known, other_accepted_values="a setting as key=value"
            )
    if len(modes) > 1 or len(tasks) > 1:
        raise InputError(f"{' '.join(named)}: give at most one account and one task")
    overrides = [word for word in words if is_override(word)]
    settings = load_autoscaling_settings(*overrides)
    request = AccountRequest((modes or ["PAPER"])[0], (tasks or [""])[0], settings)
    named_capital = any(word.startswith(f"{STARTING_CAPITAL_KEY}=") for word in overrides)
    if request.task == "recover" and request.mode.upper() == "LIVE" and not named_capital:
        raise InputError(
            f"{STARTING_CAPITAL_KEY}: required by recover LIVE, which confirms a real-money"
            " balance;"
            f" give the starting balance of the account, {STARTING_CAPITAL_KEY}=USD"
        )
    return request, None


def run(settings: AccountRequest) -> Result:
    """Run the requested task; return the report to show: the review, or else the account."""
    files = AccountFiles.from_settings(settings.settings, settings.mode)
    if settings.task == "review":
        return build_review_result(files, settings.settings)
    written = []
    if settings.task == "init":
        files.initialise()
        written = [_format_written_files(files, files.read_account())]
    elif settings.task == "recover":
        state = files.rebuild_balance()
        written = [_format_written_files(files, state)]
    return build_account_result(files, settings.settings, written)
