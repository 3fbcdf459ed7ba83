"""How many contracts of an option spread: half-Kelly on the results of the last trades, per
contract, exactly.

Kelly% = (W · mean win − L · mean loss) / mean win, W and L the shares of winning and losing trades
(a result of zero is a loss); contracts = ⌊balance · Kelly% / 2 / risk of one contract⌋, between 1
and a cap. Results are exact fractions of a dollar, so that what is 2 contracts on paper is 2
contracts here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import NormalDist
from typing import Literal

from foundation.errors import InputError, refuse_outside
from foundation.notices import check_url

Bootstrap = Literal["one_contract", "prior"]
CondorRisk = Literal["formula", "table"]

PRIOR_WINS = Fraction("0.582")
PRIOR_WIN = Fraction(266)
PRIOR_LOSS = Fraction(109)  # per contract, before there are trades
CAPS = (
    (10_000, 2),
    (20_000, 3),
    (50_000, 5),
    (100_000, 10),
)  # recommended contracts from a balance on; advice only
SHARES = 100  # an option's multiplier
WIDTHS = {
    "CALL": 5.0,
    "PUT": 5.0,
    "IRON_CONDOR": 5.0,
    "OTM_SINGLE_SIDED": 10.0,
}  # points, of one side
ORIGINS = {"IC": "IRON_CONDOR", "OTM-SS": "OTM_SINGLE_SIDED"}
CONDOR_TABLE = 250.0  # what the earlier system's table says of a condor of width 5


@dataclass(frozen=True, slots=True)
class AutoscalingSettings:
    """The settings of configs/autoscaling.yaml, under its usual names; USD and shares of one."""

    STARTING_CAPITAL: float = 20_000.0
    MAX_CONTRACTS: int = 3
    BOOTSTRAP_TRADES: int = 10
    BOOTSTRAP_MODE: Bootstrap = "one_contract"
    ROLLING_WINDOW: int = 50
    SAFETY_HALT_PCT: float = 0.5
    AUTOSCALING_ENABLED: bool = True
    NEGATIVE_KELLY_CONTRACTS: int = 1
    CONDOR_RISK: CondorRisk = "formula"
    AUTOSCALING_DATA_DIR: str = "data/autoscaling"
    FEE_PER_CONTRACT: float = 0.0
    KELLY_CONFIDENCE: float | None = None
    DRAWDOWN_HALT_PCT: float | None = None
    DRAWDOWN_RESUME_PCT: float | None = None
    HEALTHCHECK_URL: str | None = None
    ALERT_URL: str | None = None

    def __post_init__(self) -> None:
        refuse_outside(
            self,
            STARTING_CAPITAL=(1, 1e12),
            MAX_CONTRACTS=(1, 10_000),
            BOOTSTRAP_TRADES=(0, 100_000),
            ROLLING_WINDOW=(1, 100_000),
            SAFETY_HALT_PCT=(0, 1),
            NEGATIVE_KELLY_CONTRACTS=(0, 1),
            FEE_PER_CONTRACT=(0, 1e6),
        )
        if self.KELLY_CONFIDENCE is not None and not 0.5 <= self.KELLY_CONFIDENCE < 1:
            raise InputError(f"KELLY_CONFIDENCE: {self.KELLY_CONFIDENCE} is outside 0.5 … 1")
        for name in ("HEALTHCHECK_URL", "ALERT_URL"):
            check_url(name, getattr(self, name))
        halt = self.DRAWDOWN_HALT_PCT
        resume = self.DRAWDOWN_RESUME_PCT
        if halt is not None and not 0 < halt <= 1:
            raise InputError(f"DRAWDOWN_HALT_PCT: {halt} is outside 0 … 1")
        if resume is not None and (halt is None or not 0 <= resume < halt):
            raise InputError(
                f"DRAWDOWN_RESUME_PCT: {resume} is not below DRAWDOWN_HALT_PCT, {halt}"
            )

    @property
    def floor(self) -> float:
        """Balance below which nothing is ordered, USD."""
        return self.STARTING_CAPITAL * self.SAFETY_HALT_PCT

    @property
    def resume(self) -> float:
        """Fall from the peak at which orders go on after a drawdown halt."""
        return (
            (self.DRAWDOWN_HALT_PCT or 0.0) / 2
            if self.DRAWDOWN_RESUME_PCT is None
            else self.DRAWDOWN_RESUME_PCT
        )


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of the last closed trades, per contract: how many, how many won, sums of wins and of
    losses (above zero), USD.
    """

    trades: int
    wins: int
    won: Fraction
    lost: Fraction
    squares_won: Fraction
    squares_lost: Fraction

    @classmethod
    def of(cls, results: Sequence[Fraction], fee: float = 0.0) -> Statistics:
        """The statistics of results per contract, oldest first. fee: USD a contract that they
        do not hold yet.
        """
        cost = Fraction(str(fee))
        unit = math.lcm(
            cost.denominator, *(result.denominator for result in results)
        )  # whole numbers add up faster
        paid = cost.numerator * (unit // cost.denominator)
        net = [result.numerator * (unit // result.denominator) - paid for result in results]
        wins = [r for r in net if r > 0]
        losses = [-r for r in net if r <= 0]
        sums = (Fraction(sum(side), unit) for side in (wins, losses))
        return cls(
            len(net),
            len(wins),
            *sums,
            *(Fraction(sum(r * r for r in side), unit**2) for side in (wins, losses)),
        )

    @property
    def losses(self) -> int:
        """Trades that won nothing."""
        return self.trades - self.wins

    @property
    def win_rate(self) -> float:
        """Share of trades that won; NaN where there are none."""
        return self.wins / self.trades if self.trades else float("nan")

    @property
    def average_win(self) -> float:
        """USD a contract; 0 where none won."""
        return float(self.won / self.wins) if self.wins else 0.0

    @property
    def average_loss(self) -> float:
        """USD a contract, above zero; 0 where none lost."""
        return float(self.lost / self.losses) if self.losses else 0.0

    @property
    def kelly(self) -> Fraction | None:
        """Kelly's fraction of the balance, W − L · loss / win = wins · (won − lost) / (trades ·
        won); None where none won.
        """
        return self.wins * (self.won - self.lost) / (self.trades * self.won) if self.wins else None

    def lower_kelly(self, confidence: float) -> Fraction | None:
        """The bound that Kelly's fraction exceeds with this probability, by the delta method on n
        trades.

        With p the share of wins, a and b the mean win and loss a trade, Kelly is p (1 − b / a); its
        variance is that of the gradient (1 − b/a, p b / a², −p / a) along (won or not, gain, loss)
        of one trade, over n.
        """
        if self.kelly is None:
            return None
        n = self.trades
        p = self.wins / n
        a = float(self.won) / n
        b = float(self.lost) / n
        gradient = 1 - b / a, p * b / a**2, -p / a
        second = (
            (p, a, 0.0),
            (a, float(self.squares_won) / n, 0.0),
            (0.0, 0.0, float(self.squares_lost) / n),
        )
        means = p, a, b
        pairs = [(i, j) for i in range(3) for j in range(3)]
        variance = sum(
            gradient[i] * gradient[j] * (second[i][j] - means[i] * means[j]) for i, j in pairs
        )
        return self.kelly - Fraction(
            NormalDist().inv_cdf(confidence) * math.sqrt(max(variance, 0.0) / n)
        )


@dataclass(frozen=True, slots=True)
class Contracts:
    """How many contracts, and why in a few words. kelly: the fraction it follows from, where there
    is one.

    halted: whether a halt is in force.
    """

    number: int
    why: str
    kelly: Fraction | None = None
    halted: bool = False


def contracts_for(
    balance: Fraction,
    statistics: Statistics,
    closed: int,
    max_risk: Fraction,
    settings: AutoscalingSettings,
    fall: float = 0.0,
) -> Contracts:
    """Contracts of the next position. closed: trades in all, the window's and those before.
    max_risk: USD a contract.

    fall: of the balance from its peak, where a drawdown halt is in force, else 0.

    The order of the rules: the safety halt, the drawdown halt, autoscaling switched off, bootstrap,
    no edge, half-Kelly.
    """
    if balance < Fraction(str(settings.floor)):
        return Contracts(0, f"safety halt: balance below ${settings.floor:,.0f}", halted=True)
    if fall > 0:
        return Contracts(0, f"drawdown halt: {fall:.1%} below the peak", halted=True)
    if not settings.AUTOSCALING_ENABLED:
        return Contracts(1, "autoscaling is switched off")
    if closed < settings.BOOTSTRAP_TRADES:
        if settings.BOOTSTRAP_MODE == "one_contract":
            return Contracts(1, f"bootstrap: {closed} of {settings.BOOTSTRAP_TRADES} trades")
        kelly: Fraction | None = PRIOR_WINS - (1 - PRIOR_WINS) * PRIOR_LOSS / PRIOR_WIN
        why = f"bootstrap by prior: {closed} of {settings.BOOTSTRAP_TRADES} trades"
    elif settings.KELLY_CONFIDENCE is None:
        kelly = statistics.kelly
        why = "half-Kelly"
    else:
        kelly = statistics.lower_kelly(settings.KELLY_CONFIDENCE)
        why = f"half-Kelly, {settings.KELLY_CONFIDENCE:.0%} lower bound"
    if kelly is None or kelly < 0:
        return Contracts(settings.NEGATIVE_KELLY_CONTRACTS, "negative Kelly", kelly)
    wanted = math.floor(balance * kelly / 2 / max_risk)
    return Contracts(min(max(wanted, 1), settings.MAX_CONTRACTS), why, kelly)


@dataclass(frozen=True, slots=True)
class Fall:
    """Where a balance stands below its peak. in_force: the fall where it halts, else 0."""

    peak: Fraction
    in_force: float = 0.0

    def after(self, balance: Fraction, settings: AutoscalingSettings) -> Fall:
        """The same once the balance has moved: a halt begins at DRAWDOWN_HALT_PCT and ends at
        DRAWDOWN_RESUME_PCT.
        """
        peak = max(self.peak, balance)
        fall = float(1 - balance / peak)
        halt = settings.DRAWDOWN_HALT_PCT
        halted = halt is not None and (
            fall >= halt or (self.in_force > 0 and fall > settings.resume)
        )
        return Fall(peak, fall if halted else 0.0)


def drawdown(balances: Sequence[Fraction], settings: AutoscalingSettings) -> float:
    """The fall from the peak where a drawdown halt is in force at the end of a path of
    balances, else 0.
    """
    fall = Fall(balances[0])
    for balance in balances:
        fall = fall.after(balance, settings)
    return fall.in_force


def strategy_of(word: str) -> str:
    """The name of a strategy, short words included.

    Raises
    ------
    InputError
        for any other.
    """
    name = ORIGINS.get(word.strip().upper(), word.strip().upper())
    if name not in WIDTHS:
        raise InputError(f"strategy: {word!r} is none of {', '.join([*WIDTHS, *ORIGINS])}")
    return name


def max_risk(
    strategy: str, entry_credit: float, width: float | None = None, condor: CondorRisk = "formula"
) -> float:
    """USD that one contract can lose: (width − credit) · 100. width: points of one side, the
    strategy's own where none.

    condor: `table` says what the earlier system's table says of a condor of width 5, 250, whatever
    the credit.

    Raises
    ------
    InputError
        for a strategy that is none, a width not above 0, a credit below 0 or not below the width.
    """
    name = strategy_of(strategy)
    points = WIDTHS[name] if width is None else width
    if not (math.isfinite(points) and points > 0):
        raise InputError(f"width: {points} is not above 0")
    if not 0 <= entry_credit < points:
        raise InputError(f"entry_credit: {entry_credit} is outside 0 … {points:g}, the width")
    if name == "IRON_CONDOR" and condor == "table" and points == WIDTHS[name]:
        return CONDOR_TABLE
    return float((Fraction(str(points)) - Fraction(str(entry_credit))) * SHARES)


def recommended_cap(balance: float) -> int:
    """Contracts that a balance may well carry: 2 from 10,000 on, 3 from 20,000, 5 from 50,000,
    10 from 100,000; else 1.
    """
    return max([cap for least, cap in CAPS if balance >= least], default=1)
