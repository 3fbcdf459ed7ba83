"""Sizing rules of option spreads: contracts by half-Kelly on the last trades, in exact arithmetic.

Kelly% = (W · mean win − L · mean loss) / mean win, with W and L the shares of winning and losing
trades; a P/L of zero is a loss. contracts = ⌊balance · Kelly% / 2 / risk of one contract⌋, at least
1 and at most MAX_CONTRACTS. The factor 1/2 is the default of KELLY_FRACTION.

P/L per contract is an exact fraction of a dollar. In floats a quotient of exactly 2 may fall just
below 2, and its floor would be one contract too few.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, Self

from omegaconf import DictConfig

from execution.orders.option_orders import SHARES_PER_OPTION
from foundation.decimals import check_amount
from foundation.errors import InputError, invalid_choice_error
from foundation.formatting import format_short_usd
from foundation.notifier import check_url
from foundation.settings import setting, settings_class, settings_from_config

BootstrapMode = Literal["one_contract", "prior"]
CondorRiskMethod = Literal["formula", "table"]

# Prior before there are trades: share of wins, and average win and loss of one contract, USD.
PRIOR_WIN_RATE = Fraction("0.582")
PRIOR_AVERAGE_WIN_USD = Fraction(266)
PRIOR_AVERAGE_LOSS_USD = Fraction(109)

# Recommended contracts by minimum balance, USD. Advice only: MAX_CONTRACTS is the limit.
MAX_CONTRACTS_BY_BALANCE_USD = ((10_000, 2), (20_000, 3), (50_000, 5), (100_000, 10))

CONDOR_TABLE_RISK_USD = 250.0  # USD: the earlier system's table for a condor of width 5

# Width of one side in points, by strategy.
WIDTH_POINTS_BY_STRATEGY = {"CALL": 5.0, "PUT": 5.0, "IRON_CONDOR": 5.0, "OTM_SINGLE_SIDED": 10.0}
STRATEGY_ALIASES = {"IC": "IRON_CONDOR", "OTM-SS": "OTM_SINGLE_SIDED"}


@settings_class()
class AutoscalingSettings:
    """Settings of configs/autoscaling.yaml, with the names of their environment variables.

    The settings of the live seller, the backtest and the Monte Carlo inherit them.
    """

    STARTING_CAPITAL: float = setting(
        20_000.0, "starting balance of the account, USD", ge=1, le=1e12
    )
    MAX_CONTRACTS: int = setting(
        3,
        "maximum contracts of one position, whatever Kelly suggests; in the"
        " environment also MAX_CONTRACTS_PER_TRADE",
        ge=1,
        le=10_000,
    )
    BOOTSTRAP_TRADES: int = setting(
        10, "number of closed trades before Kelly uses their statistics", ge=0, le=100_000
    )
    BOOTSTRAP_MODE: BootstrapMode = setting(
        "one_contract", "size until then: `one_contract`, or Kelly on a `prior`"
    )
    ROLLING_WINDOW: int = setting(
        50, "number of recent closed trades that the statistics use", ge=1, le=100_000
    )
    SAFETY_HALT_PCT: float = setting(
        0.5, "share of STARTING_CAPITAL; below that balance no orders are sent", ge=0, le=1
    )
    AUTOSCALING_ENABLED: bool = setting(True, "false: always one contract")
    NEGATIVE_KELLY_CONTRACTS: int = setting(
        1, "contracts if the Kelly fraction is negative, 0 or 1", ge=0, le=1
    )
    CONDOR_RISK: CondorRiskMethod = setting(
        "formula",
        "maximum loss of an iron condor of width 5: `formula`, or the earlier system's `table`",
    )
    AUTOSCALING_DATA_DIR: str = setting("data/autoscaling", "folder that contains paper/ and live/")
    ACCOUNT_BALANCE_FILE: str | None = setting(
        None, "balance file; null: account_balance.json in the folder of trades.csv", min_length=1
    )
    STOP_LOSS_PER_CONTRACT: float = setting(
        800.0, "risk per contract in USD if the caller gives none", gt=0, le=1e9
    )
    FEE_PER_CONTRACT: float = setting(
        0.0, "fee in USD subtracted from each result that does not include it yet", ge=0, le=1e6
    )
    KELLY_FRACTION: float = setting(
        0.5, "share of the Kelly fraction that is used; 1 is full Kelly", gt=0, le=1
    )
    HEALTHCHECK_URL: str | None = setting(
        None, "URL that the monitor requests every five minutes", hidden=True
    )
    ALERT_URL: str | None = setting(
        None, "URL that receives alerts of halts and of unknown account state", hidden=True
    )

    def __post_init__(self) -> None:
        check_url("HEALTHCHECK_URL", self.HEALTHCHECK_URL)
        check_url("ALERT_URL", self.ALERT_URL)

    @classmethod
    def from_config(cls, config: DictConfig) -> Self:
        """Return the validated settings of a composed configuration."""
        return settings_from_config(cls, config)

    @property
    def halt_balance(self) -> Fraction:
        """Return the exact balance in USD below which the safety halt applies."""
        return Fraction(str(self.STARTING_CAPITAL)) * Fraction(str(self.SAFETY_HALT_PCT))


@dataclass(frozen=True, slots=True)
class TradeStatistics:
    """Win and loss statistics of closed trades, per contract.

    trade_count: number of trades.
    win_count: number of winning trades.
    gross_profit: gross profit, the sum of all wins, USD per contract.
    gross_loss: gross loss, the sum of all losses, USD per contract, positive.
    """

    trade_count: int
    win_count: int
    gross_profit: Fraction
    gross_loss: Fraction

    @classmethod
    def from_profits(cls, profits: Sequence[Fraction], fee: float = 0.0) -> TradeStatistics:
        """Compute statistics from the P/L of trades, USD per contract.

        fee: USD per contract, subtracted from every P/L.
        """
        cost = Fraction(str(fee))
        # Adding fractions reduces every sum to lowest terms. Over one denominator they are
        # integers, which add much faster.
        unit = math.lcm(cost.denominator, *(result.denominator for result in profits))
        paid = cost.numerator * (unit // cost.denominator)
        net = [result.numerator * (unit // result.denominator) - paid for result in profits]
        wins = [r for r in net if r > 0]
        losses = [-r for r in net if r <= 0]
        won, lost = Fraction(sum(wins), unit), Fraction(sum(losses), unit)
        return cls(trade_count=len(net), win_count=len(wins), gross_profit=won, gross_loss=lost)

    @property
    def loss_count(self) -> int:
        return self.trade_count - self.win_count

    @property
    def win_rate(self) -> float:
        """Return the share of trades that won; NaN without trades."""
        return self.win_count / self.trade_count if self.trade_count else float("nan")

    @property
    def average_win(self) -> float:
        """Return the average win, USD per contract; 0 without wins."""
        return float(self.gross_profit / self.win_count) if self.win_count else 0.0

    @property
    def average_loss(self) -> float:
        """Return the average loss, USD per contract, positive; 0 without losses."""
        return float(self.gross_loss / self.loss_count) if self.loss_count else 0.0

    @property
    def kelly_fraction(self) -> Fraction | None:
        """Return the full Kelly fraction, W − L · mean loss / mean win; None without wins.

        W and L are the shares of winning and losing trades. It is computed as
        wins · (gross_profit − gross_loss) / (trade_count · gross_profit).
        """
        if not self.win_count:
            return None
        return (
            self.win_count
            * (self.gross_profit - self.gross_loss)
            / (self.trade_count * self.gross_profit)
        )


@dataclass(frozen=True, slots=True)
class ContractCount:
    """Number of contracts of the next position, with the reason.

    contracts: contracts to sell.
    reason: name of the sizing rule that applied.
    kelly_fraction: full Kelly fraction; None if the rule used none, or if it is undefined.
    is_halted: true while the safety halt is in force.
    balance: account balance that the count is based on, USD; None if unknown.
    """

    contracts: int
    reason: str
    kelly_fraction: Fraction | None = None
    is_halted: bool = False
    balance: Fraction | None = None


def count_contracts(
    balance: Fraction,
    statistics: TradeStatistics,
    closed_trade_count: int,
    max_risk: Fraction,
    settings: AutoscalingSettings,
) -> ContractCount:
    """Return the number of contracts of the next position, by the first rule that applies.

    The rules, in order: safety halt, autoscaling switched off, bootstrap, negative Kelly fraction,
    Kelly fraction.

    balance: account balance, USD.
    statistics: statistics of the trades in the rolling window.
    closed_trade_count: number of all closed trades, inside and before the window.
    max_risk: maximum loss of one contract, USD.
    """
    if balance < settings.halt_balance:
        # Balances are whole cents: one is below the floor if it is below the next cent.
        floor = format_short_usd(Fraction(math.ceil(settings.halt_balance * 100), 100))
        return ContractCount(0, f"safety halt: balance below {floor}", is_halted=True)
    if not settings.AUTOSCALING_ENABLED:
        return ContractCount(1, "autoscaling is disabled")
    if closed_trade_count < settings.BOOTSTRAP_TRADES:
        if settings.BOOTSTRAP_MODE == "one_contract":
            return ContractCount(
                1, f"bootstrap: {closed_trade_count} of {settings.BOOTSTRAP_TRADES} trades"
            )
        kelly: Fraction | None = (
            PRIOR_WIN_RATE - (1 - PRIOR_WIN_RATE) * PRIOR_AVERAGE_LOSS_USD / PRIOR_AVERAGE_WIN_USD
        )
        why = f"bootstrap by prior: {closed_trade_count} of {settings.BOOTSTRAP_TRADES} trades"
    else:
        kelly = statistics.kelly_fraction
        why = format_kelly_multiple(settings.KELLY_FRACTION)
    if kelly is None or kelly < 0:
        return ContractCount(settings.NEGATIVE_KELLY_CONTRACTS, "negative Kelly", kelly)
    share = Fraction(str(settings.KELLY_FRACTION))
    affordable = math.floor(balance * kelly * share / max_risk)
    return ContractCount(min(max(affordable, 1), settings.MAX_CONTRACTS), why, kelly)


def format_kelly_multiple(multiple: float) -> str:
    """Return the name of a multiple of full Kelly: `half-Kelly`, `full-Kelly` or `0.25-Kelly`."""
    return {0.5: "half-Kelly", 1.0: "full-Kelly"}.get(multiple, f"{multiple:g}-Kelly")


def parse_strategy(word: str, key: str = "strategy") -> str:
    """Parse the name or short name of a strategy, in any case; return its full name.

    key: setting that contains the word, for the message.

    Raises InputError for an unknown strategy.
    """
    if not isinstance(word, str):
        raise InputError(
            f"{key}: {word!r} is not a strategy name; use one of"
            f" {', '.join(WIDTH_POINTS_BY_STRATEGY)}"
        )
    capitals = word.strip().upper()
    name = STRATEGY_ALIASES.get(capitals, capitals)
    if name not in WIDTH_POINTS_BY_STRATEGY:
        raise invalid_choice_error(key, word, [*WIDTH_POINTS_BY_STRATEGY, *STRATEGY_ALIASES])
    return name


def parse_strategies(words: Sequence[str]) -> tuple[str, ...]:
    """Parse the setting `strategies`; return full names.

    Raises InputError for an unknown name, for a duplicate, and without any name.
    """
    names = tuple(parse_strategy(word, "strategies") for word in words)
    if not names or len(set(names)) != len(names):
        raise InputError(f"strategies: got {list(words)}; name at least one strategy, each once")
    return names


def compute_max_risk(
    strategy: str,
    entry_credit: float,
    width: float | None = None,
    condor_risk: CondorRiskMethod = "formula",
) -> float:
    """Return the maximum loss of one contract, USD: (width − credit) · 100.

    entry_credit: credit of the sale, points.
    width: points between the strikes of one side; by default the strategy's usual width.
    condor_risk: `formula`; or `table`, the earlier system's 250 USD for an iron condor of width 5.

    Raises InputError for an unknown strategy, and for a credit outside 0 … width.
    """
    name = parse_strategy(strategy)
    points = check_amount(WIDTH_POINTS_BY_STRATEGY[name] if width is None else width, "width")
    credit = check_amount(entry_credit, "entry_credit")
    if points <= 0:
        raise InputError(f"width: {width} must be above 0")
    if not 0 <= credit < points:
        raise InputError(
            f"entry_credit: {entry_credit} must be at least 0 and below the width,"
            f" {float(points):g}"
        )
    if (
        name == "IRON_CONDOR"
        and condor_risk == "table"
        and points == WIDTH_POINTS_BY_STRATEGY[name]
    ):
        return CONDOR_TABLE_RISK_USD
    return float((points - credit) * SHARES_PER_OPTION)


def recommend_max_contracts(balance: float) -> int:
    """Return the recommended maximum number of contracts for a balance in USD, at least 1."""
    return max([cap for least, cap in MAX_CONTRACTS_BY_BALANCE_USD if balance >= least], default=1)
