"""How many contracts of an option spread to sell now, and why, for the configured account.

    python -m option_spreads.contracts [LIVE|PAPER] …    balance, statistics, Kelly, size, risk
    python -m option_spreads.contracts init …            begin an account
    python -m option_spreads.contracts recover …         rebuild its balance from its trades
    python -m option_spreads.contracts review …          compare the last month with a Monte Carlo

Settings are those of configs/autoscaling.yaml, under its usual names, there or in the environment.
"""

from __future__ import annotations

from foundation.cli import start

if __name__ == "__main__":
    start("option_spreads.contracts")

from collections.abc import Sequence
from dataclasses import dataclass

from foundation.cli import Result
from foundation.clock import system_clock
from foundation.compose import composed_config, is_override
from foundation.errors import InputError, invalid_choice
from foundation.figures import counted
from foundation.notices import Notices
from foundation.tables import Table
from option_spreads.autoscaler.account import TRADES, AccountFiles, AccountState
from option_spreads.autoscaler.now import Sizing, contracts_now
from option_spreads.autoscaler.rules import WIDTHS, AutoscalingSettings, max_risk, recommended_cap
from option_spreads.simulation.review import review_of, review_parts

# Usual credits, in points, for the table of risks.
CREDITS = {"CALL": 2.5, "PUT": 2.5, "IRON_CONDOR": 2.7, "OTM_SINGLE_SIDED": 1.0}
CAPITAL = "STARTING_CAPITAL"
TASKS = ("init", "recover", "review")


def calculate_position_size(
    account_balance: float | None = None,
    max_risk_per_contract: float | None = None,
    mode: str = "PAPER",
    verbose: bool = True,
) -> int:
    """Contracts of the next spread: half-Kelly on closed trades, between 1 and MAX_CONTRACTS.

    KELLY_FRACTION=1 sizes from full Kelly.

    Parameters
    ----------
    account_balance
        USD; none reads it from the account's files. The trades are read in any case. Where neither
        file is there and a balance is given, there are no trades yet.
    max_risk_per_contract
        USD that one contract can lose (`get_max_risk_for_strategy`); none: STOP_LOSS_PER_CONTRACT,
        800 unless set.
    mode
        `PAPER` or `LIVE`: which account.
    verbose
        whether the lines operators grep for are logged, or printed where no log was set up.

    Returns
    -------
    int
        0 in a halt and wherever the account's state is not known with certainty. Both are logged as
        errors and sent to ALERT_URL.

    Raises
    ------
    InputError
        for an argument or a setting that cannot be used.
    """
    settings = autoscaling_settings()
    files = AccountFiles.of(settings, mode)
    risk = max_risk_per_contract
    if risk is None:
        risk = settings.STOP_LOSS_PER_CONTRACT
    with Notices(None, settings.ALERT_URL) as notices:
        count = contracts_now(files, settings, risk, notices, account_balance, verbose=verbose)
    return count.number


def get_max_risk_for_strategy(
    strategy: str, entry_credit: float, width: float | None = None
) -> float:
    """USD that one contract of a strategy can lose: (width − credit) · 100.

    Parameters
    ----------
    strategy
        CALL, PUT, IRON_CONDOR or OTM_SINGLE_SIDED (IC, OTM-SS).
    entry_credit
        points received for one contract.
    width
        points of one side; where none is given 5, for OTM_SINGLE_SIDED 10. `CONDOR_RISK=table`
        answers 250 for a condor of width 5, as the earlier system's table does.

    Raises
    ------
    InputError
        for a strategy that is none, and a credit that does not fit its width.
    """
    return max_risk(strategy, entry_credit, width, autoscaling_settings().CONDOR_RISK)


def autoscaling_settings(*overrides: str) -> AutoscalingSettings:
    """Settings of configs/autoscaling.yaml, changed by the environment and `key=value` words."""
    return AutoscalingSettings.of(composed_config("autoscaling", list(overrides)))


def account_result(
    files: AccountFiles, settings: AutoscalingSettings, written: Sequence[str]
) -> Result:
    """The account and what may be sold of each strategy; written: said first."""
    state = files.read()
    # The fifth line is the size for one risk. The table has it for each strategy's own.
    lines = Sizing.of(state, settings.STOP_LOSS_PER_CONTRACT, settings).lines[:4]
    rows = []
    for strategy, width in WIDTHS.items():
        credit = CREDITS[strategy]
        risk = max_risk(strategy, credit, condor=settings.CONDOR_RISK)
        count = Sizing.of(state, risk, settings).count
        figures = f"{width:g}", f"{credit:.2f}", f"${risk:,.0f}", str(count.number)
        rows.append((strategy, *figures, count.why))
    heads = ("strategy", "width", "credit", "max risk", "contracts", "why")
    table = Table(f"{files.mode} account, {files.folder}", heads, rows, words=(5,))
    balance = float(state.certain_balance)
    advice = (
        f"A balance of ${balance:,.0f} may well carry"
        f" {counted(recommended_cap(balance), 'contract')}; MAX_CONTRACTS is"
        f" {settings.MAX_CONTRACTS}."
    )
    return Result([*written, *lines, table], [advice])


def review_result(files: AccountFiles, settings: AutoscalingSettings) -> Result:
    """Compare the last month's trades with a Monte Carlo of earlier trades."""
    files.read()
    found = review_of(files.folder / TRADES, settings, system_clock())
    return Result(list(review_parts(found)))


def _written_text(files: AccountFiles, state: AccountState) -> str:
    """Return a sentence on the files written, and the account's contents."""
    return (
        f"Written: {files.balance_file} and {files.folder / TRADES}; {files.mode} account,"
        f" ${float(state.balance):,.2f}: STARTING_CAPITAL and"
        f" {counted(len(state.results), 'trade')}."
    )


@dataclass(frozen=True, slots=True)
class AccountRequest:
    """An account, `PAPER` or `LIVE`, and its task, one of TASKS, or none."""

    mode: str
    task: str
    settings: AutoscalingSettings


def read(words: Sequence[str]) -> tuple[AccountRequest, None]:
    """One account and one task among the words, and settings."""
    named = [word for word in words if not is_override(word)]
    modes = [word for word in named if word.upper() in ("PAPER", "LIVE")]
    tasks = [word for word in named if word in TASKS]
    for word in named:
        if word not in (*modes, *tasks):
            known = (*TASKS, "PAPER", "LIVE")
            raise invalid_choice("word", word, known, also="a setting as key=value")
    if len(modes) > 1 or len(tasks) > 1:
        raise InputError(f"{' '.join(named)}: one account and one task at a time")
    overrides = [word for word in words if is_override(word)]
    settings = autoscaling_settings(*overrides)
    request = AccountRequest((modes or ["PAPER"])[0], (tasks or [""])[0], settings)
    named_capital = any(word.startswith(f"{CAPITAL}=") for word in overrides)
    if request.task == "recover" and request.mode.upper() == "LIVE" and not named_capital:
        raise InputError(
            f"{CAPITAL}: recover LIVE confirms a balance of real money; name what the account"
            f" began with, {CAPITAL}=USD"
        )
    return request, None


def run(settings: AccountRequest) -> Result:
    """Do the task, and show the account."""
    files = AccountFiles.of(settings.settings, settings.mode)
    if settings.task == "review":
        return review_result(files, settings.settings)
    written = []
    if settings.task == "init":
        files.initialise()
        written = [_written_text(files, files.read())]
    elif settings.task == "recover":
        state = files.recover()
        written = [_written_text(files, state)]
    return account_result(files, settings.settings, written)
