"""Report how many contracts of an option spread the configured account should sell now.

    python -m option_spreads.contracts [LIVE|PAPER] …    balance, statistics, Kelly, size, risk
    python -m option_spreads.contracts init …            create an account
    python -m option_spreads.contracts recover …         rebuild its balance from its trades

Settings are those of configs/autoscaling.yaml, in that file or in the environment.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("option_spreads.contracts")

from collections.abc import Sequence
from dataclasses import dataclass

from foundation.cli import Result
from foundation.compose import compose_config, is_override
from foundation.errors import InputError, invalid_choice_error
from foundation.formatting import format_count
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

# Usual credits, in points, for the risk table.
TYPICAL_CREDITS = {"CALL": 2.5, "PUT": 2.5, "IRON_CONDOR": 2.7, "OTM_SINGLE_SIDED": 1.0}
STARTING_CAPITAL_KEY = "STARTING_CAPITAL"
ACCOUNT_TASKS = ("init", "recover")


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
    task: `init` or `recover`; empty to show the account.
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
    """Run the requested task; return the account's report."""
    files = AccountFiles.from_settings(settings.settings, settings.mode)
    written = []
    if settings.task == "init":
        files.initialise()
        written = [_format_written_files(files, files.read_account())]
    elif settings.task == "recover":
        state = files.rebuild_balance()
        written = [_format_written_files(files, state)]
    return build_account_result(files, settings.settings, written)
