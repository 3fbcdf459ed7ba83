"""How many contracts now: the account's files, the rules, and the lines operators grep for."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from foundation.counts import counted, dollars_text
from foundation.decimals import exact_number
from foundation.errors import InputError
from foundation.notices import Notices
from option_spreads.autoscaler.account import AccountFiles, AccountState, UnknownState
from option_spreads.autoscaler.rules import (
    AutoscalingSettings,
    ContractCount,
    Drawdown,
    Statistics,
    contracts_for,
    kelly_name,
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
    Arguments as in `option_spreads.contracts.calculate_position_size`.

    Raises
    ------
    InputError
        for an argument that cannot be used.
    """
    if not isinstance(verbose, bool):
        raise InputError(f"verbose: {verbose!r} is neither true nor false")
    if exact_number(max_risk_per_contract, "max_risk_per_contract") <= 0:
        raise InputError(f"max_risk_per_contract: {max_risk_per_contract} is not above 0")
    balance = None if account_balance is None else exact_number(account_balance, "account_balance")
    try:
        state = account_state(settings, mode, balance)
    except UnknownState as error:
        log.error("%s Unknown state, 0 contracts: %s", TAG, error)
        notices.alert(
            "unknown_state", f"{TAG} {mode.upper()}: unknown state, nothing is ordered: {error}"
        )
        return ContractCount(0, f"unknown state: {error}")
    notices.end_alert("unknown_state")
    _report_difference(state, mode, notices)
    statistics, count = size_contracts(state, max_risk_per_contract, settings)
    if count.number == 0:
        log.error("%s No order: %s", TAG, count.why)
    if count.halted:
        held = f"balance ${float(state.certain_balance):,.2f}"
        if state.difference > 0:
            held += f" by the trades, the file says ${float(state.balance):,.2f}"
        notices.alert("halt", f"{TAG} {mode.upper()}: nothing is ordered: {count.why}, {held}")
    else:
        notices.end_alert("halt")
    if verbose:
        lines = report_lines(
            state, statistics, count, max_risk_per_contract, settings.KELLY_FRACTION
        )
        for line in [*lines, sizing_line(state, count, max_risk_per_contract)]:
            _say(line)
    return count


def _say(line: str) -> None:
    """Log a line; where no log was set up that takes it, print it."""
    if log.isEnabledFor(logging.INFO) and log.hasHandlers():
        log.info("%s", line)
    else:
        sys.stdout.write(f"{line}\n")


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
        f" sized from; `python -m option_spreads.contracts recover{word}` takes the trades' word",
    )


def account_files(settings: AutoscalingSettings, mode: str) -> AccountFiles:
    """The files of an account.

    Raises
    ------
    InputError
        for a mode that is none.
    """
    if not isinstance(mode, str) or mode.upper() not in ("PAPER", "LIVE"):
        raise InputError(f"mode: {mode!r} is neither PAPER nor LIVE")
    folder = Path(settings.AUTOSCALING_DATA_DIR).expanduser() / mode.lower()
    return AccountFiles(folder, settings.STARTING_CAPITAL, live=mode.upper() == "LIVE")


def account_state(
    settings: AutoscalingSettings, mode: str, balance: Fraction | None = None
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
    # A caller that knows its balance may ask before the account has begun: no files are no trades
    # then. Files that are there have to be read all the same.
    if files.empty:
        return AccountState(balance, (), ())
    state = files.read()
    return AccountState(balance, state.results, state.flows)


def size_contracts(
    state: AccountState, max_risk_per_contract: float, settings: AutoscalingSettings
) -> tuple[Statistics, ContractCount]:
    """The statistics of the rolling window, and the contracts that follow from what both the
    balance and the trades say is there.
    """
    window = state.results[-settings.ROLLING_WINDOW :]
    statistics = Statistics.of(window, settings.FEE_PER_CONTRACT)
    fall = Drawdown.along(state.balances(settings.STARTING_CAPITAL), settings).in_force
    risk = Fraction(str(max_risk_per_contract))
    closed = len(state.results)
    count = contracts_for(state.certain_balance, statistics, closed, risk, settings, fall)
    return statistics, replace(count, balance=state.certain_balance)


def report_lines(
    state: AccountState,
    statistics: Statistics,
    count: ContractCount,
    max_risk_per_contract: float,
    fraction: float = 0.5,
) -> list[str]:
    """The lines operators grep for; fraction: of Kelly's that is sized."""
    s = statistics
    kelly = share = rate = "n/a"
    balance = f"${float(state.balance):,.0f}"
    if state.difference > 0:
        balance += f", sized from the trades' ${float(state.certain_balance):,.0f}"
    name = kelly_name(fraction).capitalize().replace("kelly", "Kelly")
    if count.kelly is not None:
        kelly = f"{float(count.kelly):.2%}"
        share = f"{float(count.kelly * Fraction(str(fraction))):.2%}"
    if s.trades:
        rate = f"{s.win_rate:.1%}"
    return [
        f"{TAG} Account Balance: {balance}",
        f"{TAG} Trade History: {counted(s.trades, 'trade')}"
        f" ({counted(s.wins, 'win')}, {counted(s.losses, 'loss', 'losses')})",
        f"{TAG} Win Rate: {rate} | Avg Win: ${s.average_win:.2f} | Avg Loss: ${s.average_loss:.2f}",
        f"{TAG} Kelly%: {kelly} | {name}%: {share}",
        f"{TAG} Max Risk: ${float(max_risk_per_contract):,.0f} | Position Size: {count.number}"
        " contract(s)",
    ]


def sizing_line(state: AccountState, count: ContractCount, max_risk_per_contract: float) -> str:
    """The line of one decision, for whoever looks for `Position sizing`."""
    return (
        f"Position sizing: {count.number} contract(s) at a balance of"
        f" {dollars_text(state.certain_balance)} and a risk of"
        f" ${float(max_risk_per_contract):,.0f}: {count.why}"
    )
