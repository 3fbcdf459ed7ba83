"""How many contracts of an option spread to sell now, for the account of the configured folder, and why.

    python -m sizing.contracts [LIVE|PAPER] [key=value …]    balance, statistics, Kelly, size, risk of each strategy
    python -m sizing.contracts init | recover …              begin an account; rebuild its balance from its trades

Settings are those of configs/autoscaling.yaml, under the origin's names, there or in the environment.
"""

from __future__ import annotations

import logging
import math
import sys
from fractions import Fraction
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from sizing.account_files import AccountFiles, AccountState, UnknownState
from sizing.autoscaling import (
    WIDTHS,
    AutoscalingSettings,
    Contracts,
    Statistics,
    contracts_for,
    drawdown,
    max_risk,
    recommended_cap,
)
from sizing.notices import Notices
from trainingdata.command import Parser, is_override, one_line
from trainingdata.composition import composed
from trainingdata.configuration import settings_of
from trainingdata.errors import InputError

log = logging.getLogger(__name__)

Mode = Literal["PAPER", "LIVE"]
TAG = "[AUTOSCALING]"
CREDITS = {"CALL": 2.5, "PUT": 2.5, "IRON_CONDOR": 2.7, "OTM_SINGLE_SIDED": 1.0}  # usual ones, for the table of risks


def calculate_position_size(
    account_balance: float | None = None, max_risk_per_contract: float = 800, mode: str = "PAPER", verbose: bool = True
) -> int:
    """Contracts of the next spread: half-Kelly on the last closed trades, between 1 and MAX_CONTRACTS.

    Parameters
    ----------
    account_balance
        USD; none reads it from the account's files. Its trades are read in any case; where neither file is there and a
        balance is given, there are no trades yet.
    max_risk_per_contract
        USD that one contract can lose (`get_max_risk_for_strategy`).
    mode
        `PAPER` or `LIVE`: which account.
    verbose
        whether the lines operators grep for are logged.

    Returns
    -------
    int
        0 in a halt and wherever the account's state is not known with certainty, which is logged as an error and told to
        ALERT_URL.

    Raises
    ------
    InputError
        for an argument or a setting that cannot be used.
    """
    settings = autoscaling_settings()
    notices = Notices(None, settings.ALERT_URL)
    return contracts_now(settings, mode, max_risk_per_contract, notices, account_balance, verbose=verbose).number


def contracts_now(
    settings: AutoscalingSettings,
    mode: str,
    max_risk_per_contract: float,
    notices: Notices,
    account_balance: float | None = None,
    *,
    verbose: bool = True,
) -> Contracts:
    """`calculate_position_size` under given settings, with its reason. notices: told of unknown state and of a halt.

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
        notices.alert("unknown_state", f"{TAG} {mode.upper()}: unknown state, nothing is ordered: {error}")
        return Contracts(0, f"unknown state: {error}")
    notices.over("unknown_state")
    statistics, sized = size(state, max_risk_per_contract, settings)
    if sized.number == 0:
        log.error("%s No order: %s", TAG, sized.why)
    if sized.halted:
        notices.alert("halt", f"{TAG} {mode.upper()}: nothing is ordered: {sized.why}, balance ${float(state.balance):,.2f}")
    else:
        notices.over("halt")
    if verbose:
        for line in report(state, statistics, sized, max_risk_per_contract):
            log.info("%s", line)
    return sized


def get_max_risk_for_strategy(strategy: str, entry_credit: float, width: float | None = None) -> float:
    """USD that one contract of a strategy can lose: (width − credit) · 100.

    strategy: CALL, PUT, IRON_CONDOR or OTM_SINGLE_SIDED (IC, OTM-SS). width: points of one side; 5, for OTM_SINGLE_SIDED
    10. `CONDOR_RISK=table` answers 250 for a condor of width 5, as the origin's table does.

    Raises
    ------
    InputError
        for a strategy that is none, and a credit that does not fit its width.
    """
    return max_risk(strategy, entry_credit, width, autoscaling_settings().CONDOR_RISK)


def autoscaling_settings(*overrides: str) -> AutoscalingSettings:
    """The settings of configs/autoscaling.yaml, with the environment's and these `key=value` words.

    Raises
    ------
    InputError
        naming the key, the value and what was expected.
    """
    return settings_of(AutoscalingSettings, composed("autoscaling", list(overrides)))


def account_files(settings: AutoscalingSettings, mode: str) -> AccountFiles:
    """The files of an account.

    Raises
    ------
    InputError
        for a mode that is none.
    """
    if mode.upper() not in ("PAPER", "LIVE"):
        raise InputError(f"mode: {mode!r} is neither PAPER nor LIVE")
    return AccountFiles(Path(settings.AUTOSCALING_DATA_DIR).expanduser() / mode.lower(), settings.STARTING_CAPITAL)


def account_state(settings: AutoscalingSettings, mode: str, balance: float | None = None) -> AccountState:
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


def size(state: AccountState, max_risk_per_contract: float, settings: AutoscalingSettings) -> tuple[Statistics, Contracts]:
    """The statistics of the rolling window, and the contracts that follow."""
    window = state.results[-settings.ROLLING_WINDOW :]
    statistics = Statistics.of(window, settings.FEE_PER_CONTRACT)
    fall = drawdown(state.path(settings.STARTING_CAPITAL), settings)
    risk = Fraction(str(max_risk_per_contract))
    return statistics, contracts_for(state.balance, statistics, len(state.results), risk, settings, fall)


def report(state: AccountState, statistics: Statistics, sized: Contracts, max_risk_per_contract: float) -> list[str]:
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
        f"{TAG} Max Risk: ${max_risk_per_contract:,.0f} | Position Size: {sized.number} contract(s)",
    ]


def show(mode: str, settings: AutoscalingSettings) -> None:
    """Print the account and what may be sold of each strategy."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    state = account_state(settings, mode)
    for line in report(state, *size(state, 800.0, settings), 800.0)[:4]:
        console.print(line, highlight=False, markup=False)
    table = Table("strategy", "width", "credit", "max risk", "contracts", "why")
    for strategy, width in WIDTHS.items():
        credit = CREDITS[strategy]
        risk = max_risk(strategy, credit, condor=settings.CONDOR_RISK)
        _, sized = size(state, risk, settings)
        table.add_row(strategy, f"{width:g}", f"{credit:.2f}", f"${risk:,.0f}", str(sized.number), sized.why)
    console.print(table)
    balance, cap = float(state.balance), settings.MAX_CONTRACTS
    console.print(f"A balance of ${balance:,.0f} may well carry {recommended_cap(balance)} contracts; MAX_CONTRACTS is {cap}.")


def main() -> None:
    """Command line."""
    parser = Parser(description="How many contracts of an option spread, and why. Nothing is sent.")
    parser.add_argument("words", nargs="*", metavar="init|recover|PAPER|LIVE|key=value")
    given = parser.parse_args().words
    overrides, words = [w for w in given if is_override(w)], [w for w in given if not is_override(w)]
    modes, tasks = [w for w in words if w.upper() in ("PAPER", "LIVE")], [w for w in words if w in ("init", "recover")]
    with one_line("nothing was sent"):
        if unknown := [w for w in words if w not in (*modes, *tasks)]:
            raise InputError(f"{unknown[0]}: neither init, recover, PAPER, LIVE nor key=value")
        if len(modes) > 1 or len(tasks) > 1:
            raise InputError(f"{' '.join(words)}: one account and one task at a time")
        settings, mode = autoscaling_settings(*overrides), (modes or ["PAPER"])[0]
        files = account_files(settings, mode)
        if tasks == ["init"]:
            files.initialise()
        elif tasks == ["recover"]:
            files.recover()
        show(mode, settings)


if __name__ == "__main__":
    main()
