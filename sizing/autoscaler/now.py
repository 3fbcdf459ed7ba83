"""How many contracts now: the account's files, the rules, and the lines operators grep for."""

from __future__ import annotations

import logging
import math
from fractions import Fraction
from pathlib import Path

from foundation.counts import counted
from foundation.errors import InputError
from foundation.notices import Notices
from sizing.autoscaler.account import AccountFiles, AccountState, UnknownState
from sizing.autoscaler.rules import (
    AutoscalingSettings,
    ContractCount,
    Statistics,
    contracts_for,
    drawdown_in_force,
)

log = logging.getLogger(__name__)

TAG = "[AUTOSCALING]"


def contracts_now(
    settings: AutoscalingSettings,
    mode: str,
    max_risk_per_contract: float,
    notices: Notices,
    account_balance: float | None = None,
    *,
    verbose: bool = True,
) -> ContractCount:
    """Contracts of the next spread, with the reason.

    In a halt and in unknown state they are 0; that is logged as an error, and `notices` alerts.

    Parameters
    ----------
    mode
        `PAPER` or `LIVE`: which account.
    max_risk_per_contract
        USD that one contract can lose.
    notices
        alerts of unknown state and of a halt.
    account_balance
        USD, instead of the one in the account's files.
    verbose
        whether the lines operators grep for are logged.

    Raises
    ------
    InputError
        for an argument that cannot be used.
    """
    if not (math.isfinite(max_risk_per_contract) and max_risk_per_contract > 0):
        raise InputError(f"max_risk_per_contract: {max_risk_per_contract} is not above 0")
    if account_balance is not None and not math.isfinite(account_balance):
        raise InputError(f"account_balance: {account_balance} is no number")
    try:
        state = account_state(settings, mode, account_balance)
    except UnknownState as error:
        log.error("%s Unknown state, 0 contracts: %s", TAG, error)
        notices.alert(
            "unknown_state", f"{TAG} {mode.upper()}: unknown state, nothing is ordered: {error}"
        )
        return ContractCount(0, f"unknown state: {error}")
    notices.end_alert("unknown_state")
    _report_difference(state, mode, notices)
    report_conflicts(state, notices)
    statistics, count = size_contracts(state, max_risk_per_contract, settings)
    if count.number == 0:
        log.error("%s No order: %s", TAG, count.why)
    if count.halted:
        balance = float(state.balance)
        notices.alert(
            "halt",
            f"{TAG} {mode.upper()}: nothing is ordered: {count.why}, balance ${balance:,.2f}",
        )
    else:
        notices.end_alert("halt")
    if verbose:
        for line in report_lines(state, statistics, count, max_risk_per_contract):
            log.info("%s", line)
    return count


def _report_difference(state: AccountState, mode: str, notices: Notices) -> None:
    """Alert where the balance is not what the trades add up to."""
    if not state.difference or state.booked is None:
        notices.end_alert("balance")
        return
    word = " LIVE" if mode.upper() == "LIVE" else ""
    notices.alert(
        "balance",
        f"{TAG} {mode.upper()}: the balance is ${float(state.balance):,.2f},"
        f" STARTING_CAPITAL and the trades add up to ${float(state.booked):,.2f}; the lower one is"
        f" sized from; `python -m sizing.contracts recover{word}` takes the trades' word",
    )


def report_conflicts(state: AccountState, notices: Notices) -> None:
    """Alert, each under its own id, trades that are noted and booked with another result."""
    for trade_id, text in state.conflicts.items():
        notices.alert(f"booked {trade_id}", text)


def account_files(settings: AutoscalingSettings, mode: str) -> AccountFiles:
    """The files of an account.

    Raises
    ------
    InputError
        for a mode that is none.
    """
    if mode.upper() not in ("PAPER", "LIVE"):
        raise InputError(f"mode: {mode!r} is neither PAPER nor LIVE")
    folder = Path(settings.AUTOSCALING_DATA_DIR).expanduser() / mode.lower()
    return AccountFiles(folder, settings.STARTING_CAPITAL, live=mode.upper() == "LIVE")


def account_state(
    settings: AutoscalingSettings, mode: str, balance: float | None = None
) -> AccountState:
    """The account as its files say, or with another balance, USD, and their trades.

    Raises
    ------
    UnknownState
        for files that cannot be read or disagree, and where there are none and no balance is given.
    """
    files = account_files(settings, mode)
    if balance is None:
        return files.read()
    exact = Fraction(str(balance))
    # A caller that knows its balance may ask before the account has begun: no files are no trades
    # then. Files that are there have to be read all the same.
    if files.empty:
        return AccountState(exact, (), ())
    state = files.read()
    return AccountState(exact, state.results, state.flows, conflicts=state.conflicts)


def size_contracts(
    state: AccountState, max_risk_per_contract: float, settings: AutoscalingSettings
) -> tuple[Statistics, ContractCount]:
    """The statistics of the rolling window, and the contracts that follow.

    They are sized from what both the balance and the trades say is there.
    """
    window = state.results[-settings.ROLLING_WINDOW :]
    statistics = Statistics.of(window, settings.FEE_PER_CONTRACT)
    fall = drawdown_in_force(state.balances(settings.STARTING_CAPITAL), settings)
    risk = Fraction(str(max_risk_per_contract))
    closed = len(state.results)
    count = contracts_for(state.certain_balance, statistics, closed, risk, settings, fall)
    return statistics, count


def report_lines(
    state: AccountState, statistics: Statistics, count: ContractCount, max_risk_per_contract: float
) -> list[str]:
    """The lines operators grep for."""
    s = statistics
    kelly = half = rate = "n/a"
    if count.kelly is not None:
        kelly = f"{float(count.kelly):.2%}"
        half = f"{float(count.kelly) / 2:.2%}"
    if s.trades:
        rate = f"{s.win_rate:.1%}"
    return [
        f"{TAG} Account Balance: ${float(state.balance):,.0f}",
        f"{TAG} Trade History: {counted(s.trades, 'trade')}"
        f" ({counted(s.wins, 'win')}, {counted(s.losses, 'loss', 'losses')})",
        f"{TAG} Win Rate: {rate} | Avg Win: ${s.average_win:.2f} | Avg Loss: ${s.average_loss:.2f}",
        f"{TAG} Kelly%: {kelly} | Half-Kelly%: {half}",
        f"{TAG} Max Risk: ${max_risk_per_contract:,.0f} | Position Size: {count.number}"
        " contract(s)",
    ]
