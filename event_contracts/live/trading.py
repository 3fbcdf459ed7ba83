"""An account at Kalshi traded by a policy: manager, service, marks, and the job that steps them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from event_contracts.live.account import KalshiAccount
from event_contracts.live.job import KalshiJob
from event_contracts.live.records import JOB, KalshiRecords, kalshi_records
from event_contracts.live.settings import KalshiTradingSettings
from event_contracts.live.size_panel import sizes_section
from event_contracts.trading.action_log import ActionEntry
from event_contracts.trading.actions import LimitOrderActionSpace
from event_contracts.trading.actor import ActorService
from event_contracts.trading.connection import KalshiConnection
from event_contracts.trading.endpoint import KalshiKeys
from event_contracts.trading.estimates import EstimateFile
from event_contracts.trading.listings import Listing, UnknownMarket
from event_contracts.trading.manager import ORDER_LIFE, KalshiMultiMarketOrderManager
from event_contracts.trading.market_fees import MarketFees
from event_contracts.trading.network import load_network
from event_contracts.trading.observation import features_of
from event_contracts.trading.policies import BinaryKelly, Nothing, Policy, RandomPolicy
from event_contracts.trading.sampler import Sampler
from event_contracts.trading.sight import worth
from execution.live.loop import Stop
from execution.live.page import Bounds
from execution.live.runner import awaited, run_jobs
from foundation.clock import OURS, Time
from foundation.errors import AccessRefused, InputError
from foundation.supervisor import Supervisor

log = logging.getLogger(__name__)

Show = Callable[[ActionEntry], None]


def trade(
    settings: KalshiTradingSettings,
    keys: KalshiKeys,
    stop: Stop,
    show: Show,
    time: Time = OURS,
) -> None:
    """Trade until the steps are made, every market has settled, or it is told to stop.

    show: called with every decision.

    Raises
    ------
    InputError
        for settings that cannot be used, an account that another process trades, a kill file, a
        venue that does not answer at the start (one that is to trade until it is stopped waits for
        it), and what the last of `halt_after` ticks met.
    """
    venue = settings.venue()
    fees = MarketFees(settings.fees.on)
    policy, sizes = policy_of(settings)
    estimates = None if settings.estimates is None else Path(settings.estimates)
    supervisor = Supervisor.of(os.environ)
    with kalshi_records(settings, venue, keys, time.now) as records:
        account = records.account
        connection = KalshiConnection(venue, keys, time)
        own = EstimateFile(estimates, account.notices)
        sampler = Sampler(connection, settings.markets, settings.step, own.at)

        def begin() -> KalshiJob:
            listings = sampler.read()
            fees.learn(connection, settings.markets)
            space = settings.space_at(fees.dearest(time.now()))
            manager = _manager(settings, keys, space, fees, records, time)
            marks = KalshiAccount(manager, records, settings.guards)
            began = records.actions.began(worth(manager.view(settings.markets[0])))
            service = _service(
                settings, records, manager, space, policy(space, float(began)), sizes, show
            )
            _follow(service, sampler, listings, records)
            marks.mark()
            return KalshiJob(service, sampler, manager, marks, records, stop, settings.steps)

        job = awaited(
            begin,
            stop,
            supervisor,
            time,
            patient=settings.steps is None,
            hopeless=(AccessRefused, UnknownMarket),
        )
        if job is not None:
            run_jobs(
                [job],
                account,
                stop,
                supervisor,
                clock=time.now,
                bounds=Bounds(float(settings.limits.share), settings.guards),
                sections=[sizes_section(account.book)],
                halt_after=settings.halt_after,
            )
            log.info("%d ticks; not decided on: %s", job.made, job.service.skipped)


def _manager(
    settings: KalshiTradingSettings,
    keys: KalshiKeys,
    space: LimitOrderActionSpace,
    fees: MarketFees,
    records: KalshiRecords,
    time: Time,
) -> KalshiMultiMarketOrderManager:
    return KalshiMultiMarketOrderManager(
        settings.venue(),
        keys,
        space.admission,
        fees,
        book=records.account.book,
        guard=records.guard,
        job=JOB,
        life=max(settings.life * settings.step, ORDER_LIFE),
        time=time,
    )


def _service(
    settings: KalshiTradingSettings,
    records: KalshiRecords,
    manager: KalshiMultiMarketOrderManager,
    space: LimitOrderActionSpace,
    policy: Policy,
    sizes: bool,
    show: Show,
) -> ActorService:
    return ActorService(
        records.account.name,
        manager,
        space,
        policy,
        records.actions,
        records.account.notices,
        settings.actor,
        clock=records.account.now,
        sizes=sizes,
        life=settings.life,
        halted=records.opens_nothing,
        show=show,
    )


def _follow(
    service: ActorService,
    sampler: Sampler,
    listings: Mapping[str, Listing],
    records: KalshiRecords,
) -> None:
    """Have every market sampled and traded, in the steps of an earlier process where it had some.

    listings: the markets as they are listed now.
    """
    spans = records.actions.spans()
    for market, listing in listings.items():
        span = spans.get(market) or sampler.span(market, listing, records.account.now())
        sampler.spans[market] = span
        service.follow(market, span)


def policy_of(
    settings: KalshiTradingSettings,
) -> tuple[Callable[[LimitOrderActionSpace, float], Policy], bool]:
    """What makes the policy that settings name, and whether it is shown features of sizes.

    It is made of the actions, and of the USD that money in features is a multiple of.

    Raises
    ------
    InputError
        for a checkpoint that cannot be read, or was trained with other sizes or price styles.
    """
    if settings.policy == "nothing":
        return lambda *_: Nothing(), True
    if settings.policy == "random":
        return lambda *_: RandomPolicy(settings.seed), True
    if settings.policy == "kelly":
        return lambda space, began: BinaryKelly(space, began, settings.kelly_fraction), True
    network = load_network(settings.policy)
    if why := network.about.other_orders(settings):
        raise InputError(f"{settings.policy}: {why}")
    return lambda *_: network, network.about.features == features_of(sizes=True)
