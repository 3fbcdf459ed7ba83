"""How many contracts now: the account as its files say, the rules, and the lines operators grep
for.
"""

from __future__ import annotations

import logging
import math
from fractions import Fraction
from pathlib import Path

from foundation.errors import InputError
from foundation.notices import Notices
from sizing.autoscaler.account import AccountFiles, AccountState, UnknownState
from sizing.autoscaler.rules import (
    AutoscalingSettings,
    Contracts,
    Statistics,
    contracts_for,
    drawdown,
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
) -> Contracts:
    """Contracts of the next spread under given settings, with its reason. notices: told of unknown
    state and of a halt.

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
        return Contracts(0, f"unknown state: {error}")
    notices.over("unknown_state")
    statistics, sized = size(state, max_risk_per_contract, settings)
    if sized.number == 0:
        log.error("%s No order: %s", TAG, sized.why)
    if sized.halted:
        notices.alert(
            "halt",
            f"{TAG} {mode.upper()}: nothing is ordered: {sized.why}, balance"
            f" ${float(state.balance):,.2f}",
        )
    else:
        notices.over("halt")
    if verbose:
        for line in report(state, statistics, sized, max_risk_per_contract):
            log.info("%s", line)
    return sized


def account_files(settings: AutoscalingSettings, mode: str) -> AccountFiles:
    """The files of an account.

    Raises
    ------
    InputError
        for a mode that is none.
    """
    if mode.upper() not in ("PAPER", "LIVE"):
        raise InputError(f"mode: {mode!r} is neither PAPER nor LIVE")
    return AccountFiles(
        Path(settings.AUTOSCALING_DATA_DIR).expanduser() / mode.lower(), settings.STARTING_CAPITAL
    )


def account_state(
    settings: AutoscalingSettings, mode: str, balance: float | None = None
) -> AccountState:
    """The account as its files say. balance: USD, instead of theirs.

    Raises
    ------
    UnknownState
        for files that cannot be read or disagree, and where there are none and no balance is given.
    """
    files = account_files(settings, mode)
    if balance is None:
        return files.read()
    given = Fraction(str(balance))
    if files.empty:
        return AccountState(given, (), ())
    state = files.read()
    return AccountState(given, state.results, state.flows)


def size(
    state: AccountState, max_risk_per_contract: float, settings: AutoscalingSettings
) -> tuple[Statistics, Contracts]:
    """The statistics of the rolling window, and the contracts that follow."""
    window = state.results[-settings.ROLLING_WINDOW :]
    statistics = Statistics.of(window, settings.FEE_PER_CONTRACT)
    fall = drawdown(state.path(settings.STARTING_CAPITAL), settings)
    risk = Fraction(str(max_risk_per_contract))
    return statistics, contracts_for(
        state.balance, statistics, len(state.results), risk, settings, fall
    )


def report(
    state: AccountState, statistics: Statistics, sized: Contracts, max_risk_per_contract: float
) -> list[str]:
    """The lines operators grep for."""
    s = statistics
    kelly = "n/a" if sized.kelly is None else f"{float(sized.kelly):.2%}"
    half = "n/a" if sized.kelly is None else f"{float(sized.kelly) / 2:.2%}"
    rate = f"{s.win_rate:.1%}" if s.trades else "n/a"
    return [
        f"{TAG} Account Balance: ${float(state.balance):,.0f}",
        f"{TAG} Trade History: {s.trades} trades ({s.wins} wins, {s.losses} losses)",
        f"{TAG} Win Rate: {rate} | Avg Win: ${s.average_win:.2f} | Avg Loss: ${s.average_loss:.2f}",
        f"{TAG} Kelly%: {kelly} | Half-Kelly%: {half}",
        f"{TAG} Max Risk: ${max_risk_per_contract:,.0f} | Position Size: {sized.number}"
        " contract(s)",
    ]
