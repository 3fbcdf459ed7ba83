"""Sizing of the next spread: its contract count from account files, with log lines."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, replace
from fractions import Fraction

from foundation.decimals import check_amount
from foundation.errors import InputError
from foundation.formatting import format_count, format_short_usd
from foundation.notifier import Notifier
from option_spreads.autoscaler.account import AccountFiles, AccountState, UnknownAccountState
from option_spreads.autoscaler.rules import (
    AutoscalingSettings,
    ContractCount,
    TradeStatistics,
    count_contracts,
    format_kelly_multiple,
)

log = logging.getLogger(__name__)

LOG_TAG = "[AUTOSCALING]"


@dataclass(frozen=True, slots=True)
class ContractSizing:
    """Contract count of the next spread, with the figures that explain it.

    account_state: balance and closed trades of the account.
    max_loss_per_contract: maximum loss of one contract, USD.
    kelly_multiple: multiple of full Kelly that is used for sizing, such as 0.5.
    trade_statistics: statistics of the trades in the rolling window.
    contract_count: number of contracts, sized from the lower of balance and booked balance.
    """

    account_state: AccountState
    max_loss_per_contract: float
    kelly_multiple: float
    trade_statistics: TradeStatistics
    contract_count: ContractCount

    @classmethod
    def from_account_state(
        cls, state: AccountState, max_loss_per_contract: float, settings: AutoscalingSettings
    ) -> ContractSizing:
        """Size the next spread from an account's state.

        max_loss_per_contract: maximum loss of one contract, USD.
        """
        window = state.trade_profits[-settings.ROLLING_WINDOW :]
        statistics = TradeStatistics.from_profits(window, settings.FEE_PER_CONTRACT)
        balance = state.conservative_balance
        closed = len(state.trade_profits)
        count = count_contracts(
            balance, statistics, closed, Fraction(str(max_loss_per_contract)), settings
        )
        count = replace(count, balance=balance)
        return cls(state, max_loss_per_contract, settings.KELLY_FRACTION, statistics, count)

    @property
    def log_lines(self) -> list[str]:
        """Return five log lines with the tag `[AUTOSCALING]`, which operators search for."""
        s, kelly = self.trade_statistics, self.contract_count.kelly_fraction
        share = None if kelly is None else kelly * Fraction(str(self.kelly_multiple))
        balance = f"${float(self.account_state.balance):,.0f}"
        if self.account_state.balance_discrepancy > 0:
            balance += (
                f", sized from ${float(self.account_state.conservative_balance):,.0f}"
                " (STARTING_CAPITAL"
                " plus trades)"
            )
        name = format_kelly_multiple(self.kelly_multiple).capitalize().replace("kelly", "Kelly")
        rate = f"{s.win_rate:.1%}" if s.trade_count else "n/a"
        return [
            f"{LOG_TAG} Account Balance: {balance}",
            f"{LOG_TAG} Trade History: {format_count(s.trade_count, 'trade')}"
            f" ({format_count(s.win_count, 'win')},"
            f" {format_count(s.loss_count, 'loss', 'losses')})",
            f"{LOG_TAG} Win Rate: {rate} | Avg Win: ${s.average_win:.2f}"
            f" | Avg Loss: ${s.average_loss:.2f}",
            f"{LOG_TAG} Kelly%: {_format_percent(kelly)} | {name}%: {_format_percent(share)}",
            f"{LOG_TAG} Max Risk: ${float(self.max_loss_per_contract):,.0f} | Position Size:"
            f" {self.contract_count.contracts} contract(s)",
        ]

    @property
    def summary(self) -> str:
        """Return a one-line summary for the log; it begins with `Position sizing`."""
        return (
            f"Position sizing: {self.contract_count.contracts} contract(s) at a balance of"
            f" {format_short_usd(self.account_state.conservative_balance)} and a risk of"
            f" ${float(self.max_loss_per_contract):,.0f}: {self.contract_count.reason}"
        )


def _format_percent(share: Fraction | None) -> str:
    return "n/a" if share is None else f"{float(share):.2%}"


def size_contracts(
    files: AccountFiles,
    settings: AutoscalingSettings,
    max_risk_per_contract: float,
    notices: Notifier,
    account_balance: float | None = None,
    *,
    verbose: bool = True,
) -> ContractCount:
    """Return the number of contracts of the next spread, with the reason.

    The count is 0 in a safety halt and for unreadable account files. Both are logged as errors and
    alerted.

    files: files of the account.
    max_risk_per_contract: maximum loss of one contract, USD, above 0.
    notices: receiver of the alerts.
    account_balance: USD; None reads the balance from the files. Trades are read in any case.
    verbose: true to log the lines that operators search for; without a log handler they are
        printed.
    """
    if check_amount(max_risk_per_contract, "max_risk_per_contract") <= 0:
        raise InputError(f"max_risk_per_contract: {max_risk_per_contract} must be above 0")
    balance = None if account_balance is None else check_amount(account_balance, "account_balance")
    account = f"{LOG_TAG} {files.mode}"
    try:
        state = (
            files.read_account() if balance is None else files.read_account_with_balance(balance)
        )
    except UnknownAccountState as error:
        log.error("%s Unknown state, 0 contracts: %s", LOG_TAG, error)
        notices.alert(
            "unknown_state", f"{account}: unknown account state, no orders are sent: {error}"
        )
        return ContractCount(0, f"unknown account state: {error}")
    notices.reset_alert("unknown_state")
    notices.update_alert("balance", _format_balance_discrepancy(state, files))
    sizing = ContractSizing.from_account_state(state, max_risk_per_contract, settings)
    count = sizing.contract_count
    if count.contracts == 0:
        log.error("%s No order: %s", LOG_TAG, count.reason)
    held = f"balance ${float(state.conservative_balance):,.2f}"
    if state.balance_discrepancy > 0:
        held += (
            f" according to the trades, ${float(state.balance):,.2f} according to the balance file"
        )
    halt = f"{account}: no orders are sent: {count.reason}, {held}"
    notices.update_alert("halt", halt if count.is_halted else "")
    if verbose:
        for line in [*sizing.log_lines, sizing.summary]:
            _log_or_print(line)
    return count


def _log_or_print(line: str) -> None:
    """Log a line; print it instead if no log handler is configured."""
    if log.isEnabledFor(logging.INFO) and log.hasHandlers():
        log.info("%s", line)
    else:
        sys.stdout.write(f"{line}\n")


def _format_balance_discrepancy(state: AccountState, files: AccountFiles) -> str:
    """Return an alert if the balance file differs from the booked balance, else ""."""
    if not state.balance_discrepancy or state.booked_balance is None:
        return ""
    return (
        f"{LOG_TAG} {files.mode}: the balance file has ${float(state.balance):,.2f}, but"
        f" STARTING_CAPITAL plus trades is ${float(state.booked_balance):,.2f}; sizing uses the"
        f" lower one. To adopt the trades' balance, run `{files.format_task_command('recover')}`"
    )
