"""Sells credit spreads on a paper account, follows them and books what they did, until interrupted.

    python -m execution.sell_spreads vix=VIX.parquet [strategies=[PUT,IRON_CONDOR]]
    [broker.url_override=URL] [key=value …]

The account it sizes from and books in is that of `python -m sizing.contracts`; begin it with
`init`. Interrupted or killed, it goes on where it was when it is started again; what is open stays
open meanwhile, and nobody watches it. Its options are its own: where they are traded by hand it
orders nothing more, and says so.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from filelock import FileLock, Timeout
from omegaconf import DictConfig

from execution.alpaca.options import AlpacaSpreads
from execution.spreads.rules import Implied, SpreadCosts, SpreadRules
from execution.spreads.seller import SellerRules, SpreadSeller
from execution.spreads.state import OpenSpreads
from foundation.command import log_to_file, one_line
from foundation.compose import composed
from foundation.configuration import settings_beside
from foundation.errors import InputError, refuse_outside
from foundation.notices import Notices
from sizing.autoscaler.account import UnknownState
from sizing.autoscaler.now import account_files
from sizing.autoscaler.rules import AutoscalingSettings, strategy_of
from trainingdata.feed.endpoint import BrokerSettings, Keys
from trainingdata.instruments import Kind, instrument
from trainingdata.source import Feed
from trainingdata.volatility_index import RESPONSE, volatility_index


@dataclass(frozen=True, slots=True)
class SellingSettings:
    """Settings of configs/sell_spreads.yaml, which says what each means; sizing: the
    autoscaler's, beside the others.
    """

    strategies: tuple[str, ...] = ("PUT",)
    underlying: str = "SPY"
    scale: float = 1.0
    root: str = "SPY"
    feed: Feed = "iex"
    vix: str = ""
    response: float = RESPONSE
    window: float = 5.0
    interval: float = 15.0
    patience: float = 10.0
    looks: int | None = None
    rules: SpreadRules = field(default_factory=lambda: SpreadRules(leave_at=350))
    costs: SpreadCosts = field(default_factory=SpreadCosts)
    implied: Implied = field(default_factory=Implied)
    broker: BrokerSettings = field(default_factory=BrokerSettings)
    sizing: AutoscalingSettings = field(default_factory=AutoscalingSettings)

    def __post_init__(self) -> None:
        names = [strategy_of(name) for name in self.strategies]
        if not names or len(set(names)) != len(names):
            raise InputError(f"strategies: {list(self.strategies)} names none, or one twice")
        if instrument(self.underlying).kind is not Kind.STOCK:
            raise InputError(f"underlying: {self.underlying} is no stock")
        refuse_outside(
            self,
            scale=(1e-3, 1e3),
            response=(-20, 20),
            window=(0.1, 60),
            interval=(0, 3600),
            patience=(0, 600),
        )
        if self.root == self.underlying and self.rules.leave_at is None:
            raise InputError(
                f"rules.leave_at: options on {self.root} deliver shares; name a minute before the"
                " close"
            )
        if self.looks is not None and self.looks < 1:
            raise InputError(f"looks: {self.looks} is below 1")
        if not self.broker.paper:
            raise InputError(
                "broker.paper: spreads are sold on paper accounts and practice servers only"
            )

    @classmethod
    def of(cls, config: DictConfig) -> SellingSettings:
        """The checked settings of a composed configuration.

        Raises
        ------
        InputError
            naming the key, the value and what was expected.
        """
        return settings_beside(cls, "sizing", AutoscalingSettings, config, lists=("strategies",))

    def told(self) -> SellerRules:
        """What the seller is told."""
        rules = tuple(replace(self.rules, strategy=strategy_of(name)) for name in self.strategies)
        return SellerRules(
            self.root, rules, self.costs, self.implied, self.sizing, self.window, self.response
        )


def sell(settings: SellingSettings, keys: Keys, wait: Callable[[float], None] = time.sleep) -> None:
    """Step after step, as many as there are to be. wait: between them.

    Raises
    ------
    InputError
        for an account that cannot be used, and another seller that does.
    """
    notices = Notices(settings.sizing.HEALTHCHECK_URL, settings.sizing.ALERT_URL)
    venue = AlpacaSpreads(
        settings.broker,
        keys,
        underlying=settings.underlying,
        scale=settings.scale,
        feed=settings.feed,
        patience=settings.patience,
    )
    told = settings.told()
    files = account_files(settings.sizing, told.mode)
    if files.empty:
        raise InputError(
            f"{files.folder}: there is no account; `python -m sizing.contracts init` begins one"
        )
    volatility_index(settings.vix, "vix")
    seller = SpreadSeller(venue, told, lambda: volatility_index(settings.vix, "vix"), notices)
    try:
        with FileLock(files.folder / ".seller.lock", timeout=0):
            _follow(seller, notices, settings, wait)
    except Timeout:
        raise InputError(f"{files.folder}: another seller works on this account") from None


def _follow(
    seller: SpreadSeller, notices: Notices, settings: SellingSettings, wait: Callable[[float], None]
) -> None:
    """Step after step; whatever one meets, what is open has to be followed, but where its own
    file cannot be read.
    """
    shown: tuple[str, ...] | None = None
    trouble = ""
    for number in itertools.count() if settings.looks is None else range(settings.looks):
        if number:
            wait(settings.interval)
        try:
            state = seller.step()
        except UnknownState:
            raise
        except InputError as error:
            notices.alert("step", str(error))
            if number + 1 == settings.looks:
                raise
            if str(error) != trouble:
                trouble = str(error)
                sys.stderr.write(f"{trouble}\n")
            continue
        notices.over("step")
        notices.beat()
        trouble = ""
        if (now := tuple(spread.trade_id for spread in state.spreads)) != shown:
            _show(state)
            shown = now


def _show(state: OpenSpreads) -> None:
    """Print what is open."""
    for spread in state.spreads:
        legs = "/".join(f"{leg.strike:g}" for leg in spread.spread.legs)
        sys.stdout.write(
            f"{spread.trade_id}: {spread.contracts} {spread.strategy} {legs} sold at"
            f" {spread.credit}\n"
        )
    if not state.spreads:
        sys.stdout.write("nothing is open\n")
    sys.stdout.flush()


def main() -> None:
    """Command line: Hydra overrides of configs/sell_spreads.yaml."""
    with one_line("what is open stays open and is not watched; start again to go on"):
        settings = SellingSettings.of(composed("sell_spreads", sys.argv[1:]))
        log_to_file("sell_spreads")
        sell(settings, Keys.of(os.environ))


if __name__ == "__main__":
    main()
