r"""Sizes that vary beside one size, Kelly, chance and nothing, over the same held-out sessions.

    python -m event_contracts.compare variable=[A.safetensors,…] fixed=[B.safetensors,…] \
        [folder=RECORDED] [key=value …]

Every policy plays every session under the same money, fees and limits; a checkpoint that was
trained under another seed is another run of its policy. The page answers whether the variable sizes
earn more than 10 % more than the fixed one, at a better Sharpe ratio: yes, no, or no power. The
same is asked of Kelly, which needs no training. Checkpoints of one kind are compared with Kelly of
the same sizes.

    python -m event_contracts.compare journal=ACCOUNT/journal.sqlite [fixed_size=10]

With a journal the sessions are the markets of that account which have settled, and what it decided
plays them too, as it was and at the one size. Every policy trades at its recorded ticks only. What
the account itself booked stands beside the replays.
`episode` has to state the limits, fees and order settings that the account traded with.
"""

from __future__ import annotations

from foundation.cli import start

if __name__ == "__main__":
    start("event_contracts.compare")

from dataclasses import replace
from pathlib import Path

import numpy as np

from event_contracts.settings import ComparisonSettings
from event_contracts.simulation.comparison import Comparison, Entrant, HeldOut, compare_policies
from event_contracts.simulation.comparison_page import result_of
from event_contracts.simulation.journaled import JournaledDecisions, journaled_decisions
from event_contracts.simulation.recorded import events_of, recorded_markets
from event_contracts.simulation.settings import EpisodeSettings
from event_contracts.simulation.synthetic import synthetic_sessions
from event_contracts.trading.policies import About, BinaryKelly, Nothing, RandomPolicy, load_network
from forecasting.forecast import Progress, silent
from foundation.cli import Result
from foundation.errors import InputError
from foundation.files import file_digest

HELD_OUT = 1923  # beside the seed: training draws its synthetic sessions from one number
VARIABLE = "variable"
KELLY = "kelly"
ACCOUNT = "account's policy, replayed"


def held_out_sessions(settings: ComparisonSettings) -> HeldOut:
    """The sessions that no training has seen: synthetic ones, or markets of the last events."""
    if settings.folder is not None:
        return _recorded(settings, settings.folder)
    market = settings.episode.market
    drawn = synthetic_sessions((HELD_OUT, settings.seed), settings.sessions, market)
    return HeldOut(
        sessions=list(drawn),
        groups=np.arange(settings.sessions),
        source=f"{settings.sessions} synthetic sessions, seed {settings.seed}: {market}",
    )


def _recorded(settings: ComparisonSettings, folder: str) -> HeldOut:
    markets = recorded_markets(folder)
    events = events_of(markets, settings.judge_events, "judge_events")
    last = events[-settings.judge_events :]
    judging = [market for market in markets if market.event in last]
    return HeldOut(
        sessions=[market.session for market in judging],
        groups=np.array([last.index(market.event) for market in judging]),
        source=f"recorded markets of {', '.join(last)}",
        earlier=len(events) - settings.judge_events,
    )


def entrants_of(
    settings: ComparisonSettings, held_out: HeldOut, account: JournaledDecisions | None = None
) -> list[Entrant]:
    """Whoever plays: the account, the checkpoints that were named, Kelly, chance and nothing."""
    every = settings.episode
    single = replace(every, fixed_size=settings.fixed_size)
    entrants = []
    if account is not None:
        index = every.position_sizes.index(settings.fixed_size)
        entrants.append(Entrant(ACCOUNT, (account.policy(),), every))
        entrants.append(Entrant(settings.fixed_of(ACCOUNT), (account.policy(index),), single))
    if settings.variable:
        entrants.append(_trained(VARIABLE, settings.variable, every, held_out))
    if settings.fixed:
        entrants.append(_trained(settings.fixed_name, settings.fixed, single, held_out))
    for name, episode in ((KELLY, every), (settings.fixed_of(KELLY), single)):
        policy = BinaryKelly(episode.space(), episode.starting_cash, settings.kelly_fraction)
        entrants.append(Entrant(name, (policy,), episode))
    chance = tuple(RandomPolicy(settings.seed + k) for k in range(settings.runs))
    return [*entrants, Entrant("random", chance, every), Entrant("nothing", (Nothing(),), every)]


def questions_of(
    settings: ComparisonSettings, account: JournaledDecisions | None = None
) -> list[tuple[str, str]]:
    """Return pairs of entrants to compare; the verdict is about the first pair.

    The first pair is the account at its own sizes and at one size, else the checkpoints. One kind
    of checkpoints is compared with Kelly. Without account and checkpoints it is Kelly alone.
    """
    kelly, kelly_fixed = KELLY, settings.fixed_of(KELLY)
    pairs = [] if account is None else [(ACCOUNT, settings.fixed_of(ACCOUNT))]
    if settings.variable and settings.fixed:
        pairs.append((VARIABLE, settings.fixed_name))
    elif settings.variable:
        pairs.append((VARIABLE, kelly))
    elif settings.fixed:
        pairs.append((settings.fixed_name, kelly_fixed))
    return [*pairs, (kelly, kelly_fixed)]


def _trained(
    name: str, paths: tuple[str, ...], episode: EpisodeSettings, held_out: HeldOut
) -> Entrant:
    """The checkpoints of one kind as one entrant."""
    try:
        policies = tuple(load_network(path) for path in paths)
    except InputError as error:
        key = VARIABLE if name == VARIABLE else "fixed"
        raise InputError(
            f"{key}: {error} (it names checkpoints that event_contracts.train has written)"
        ) from error
    for path, policy in zip(paths, policies, strict=True):
        about = policy.about
        if why := about.other_orders(episode):
            raise InputError(f"{path}, {name}: {why}")
        _check_unseen(path, about, held_out)
    if len({file_digest(Path(path)) for path in paths}) < len(paths):
        raise InputError(f"{name}: the same checkpoint stands for several training runs")
    return Entrant(name, policies, episode)


def _check_unseen(path: str, about: About, held_out: HeldOut) -> None:
    """Refuse a checkpoint that was trained on recorded events which judge it."""
    if held_out.earlier is None:
        return
    events = 0
    for run in about.runs:
        if run.get("folder") or run.get("recorded"):
            count = run.get("train_events")
            if not isinstance(count, int):
                raise InputError(f"{path}: its header does not say how many events it has seen")
            events = max(events, count)
    if events > held_out.earlier:
        raise InputError(
            f"{path}: trained on the first {events} recorded events; only the first"
            f" {held_out.earlier} do not judge here"
        )


def compare(settings: ComparisonSettings, *, progress: Progress = silent) -> Comparison:
    """Play the whole comparison.

    progress: called as runs are done.
    """
    account = None
    if settings.journal is not None:
        path = Path(settings.journal).expanduser()
        account = journaled_decisions(path, settings.episode.space())
        episode = replace(settings.episode, starting_cash=float(account.cash))
        settings = replace(settings, episode=episode)
    held_out = held_out_sessions(settings) if account is None else account.held_out
    entrants = entrants_of(settings, held_out, account)
    pairs = questions_of(settings, account)
    found = compare_policies(entrants, held_out, pairs, seed=settings.seed, progress=progress)
    return found if account is None else replace(found, booked=account.booked)


def run(settings: ComparisonSettings, progress: Progress) -> Result:
    return result_of(compare(settings, progress=progress))
