"""Walk-forward search: try settings on a training span, test the best ones on the next span.

Optuna's TPE sampler draws `TRIALS_PER_BATCH` trials before it learns their objectives, so the draws
do not depend on the number of parallel runs. Each training span has its own seed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import optuna

from execution.decision.beliefs import BeliefTable
from forecasting.forecast import Progress, has_look_ahead
from foundation.arrays import Array
from marketsimulator.results.belief_tables import BeliefTableCache
from marketsimulator.results.metrics import (
    Performance,
    count_periods_per_year,
    measure_daily_performance,
)
from marketsimulator.results.search.options import SearchOptions
from marketsimulator.results.search.space import SearchSpace
from marketsimulator.results.search.spans import (
    Fold,
    SearchSpan,
    build_walk_forward_folds,
    build_whole_span,
)
from marketsimulator.results.significance import (
    Outperformance,
    Overfitting,
    bootstrap_intervals,
    deflated_sharpe,
    estimate_overfitting,
    measure_outperformance,
)
from marketsimulator.results.trial_identity import data_hash, make_trial
from marketsimulator.results.trials import record_trials
from marketsimulator.runs.outcome import simulate_variants, simulate_variants_on_ray
from marketsimulator.settings import BacktestSettings
from trainingdata.market import Market

TRIALS_PER_BATCH = 10  # trials drawn before the first of them has a result
RUINED_OBJECTIVE = -100.0  # objective of settings that lose everything


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """The search space and the options of a search."""

    space: SearchSpace
    options: SearchOptions


class TrialResult(NamedTuple):
    """Result of one trial.

    returns: [D] daily returns on the training span.
    forecaster: name of the forecaster.
    """

    returns: Array
    forecaster: str


class SearchTrial(NamedTuple):
    """A trial of a training span.

    number: number of its draw, from 1.
    params: drawn values by key.
    objective_value: their objective on the training span.
    """

    number: int
    params: Mapping[str, Any]
    objective_value: float


@dataclass(frozen=True, eq=False, slots=True)
class SpanChoice:
    """The settings chosen on a training span, and their returns on the next span.

    fold: training span and test span.
    params: chosen values by key.
    objective_value: their objective on the training span.
    training_returns: [D] daily returns on the training span.
    trials: trials of the training span in the order of their draws.
    test_returns: [D] daily returns on the test span; None without a test.
    default_test_returns: [D] daily returns of the default settings on the test span; None without a
        test.
    """

    fold: Fold
    params: dict[str, Any]
    objective_value: float
    training_returns: Array
    trials: tuple[SearchTrial, ...] = ()
    test_returns: Array | None = None
    default_test_returns: Array | None = None


@dataclass(frozen=True, eq=False, slots=True)
class SearchResult:
    """Result of a search.

    market: bars of the whole search.
    plan: search space and options.
    choices: choice of each training span.
    trial_count: number of all trials on these data.
    overfitting: probability of backtest overfitting among the trials of the last training span;
        None for too few days or variants.
    days_per_year: days per year.
    forecasters: names of the forecasters of the choices.
    seed: seed of the bootstrap.
    """

    market: Market
    plan: SearchPlan
    choices: tuple[SpanChoice, ...]
    trial_count: int
    overfitting: Overfitting | None
    days_per_year: int
    forecasters: tuple[str, ...]
    seed: int

    @property
    def tested_choices(self) -> tuple[SpanChoice, ...]:
        return tuple(choice for choice in self.choices if choice.test_returns is not None)

    @property
    def chosen_returns(self) -> Array:
        """Daily returns [D] of the chosen settings over all test spans, concatenated."""
        return np.concatenate([c.test_returns for c in self.choices if c.test_returns is not None])

    @property
    def default_returns(self) -> Array:
        """Daily returns [D] of the default settings over all test spans."""
        return np.concatenate(
            [c.default_test_returns for c in self.choices if c.default_test_returns is not None]
        )

    def performance(self, returns: Array) -> Performance:
        return measure_daily_performance(cumulative_growth(returns), self.days_per_year)

    def confidence_intervals(self, returns: Array) -> dict[str, tuple[float, float]]:
        """Return 90 % intervals of annual figures; empty if the account was wiped out."""
        if (returns <= -1).any():
            return {}
        return bootstrap_intervals(returns, self.days_per_year, seed=self.seed)

    def outperformance(self) -> Outperformance | None:
        """Return the lead of chosen over default settings; None if an account was wiped out."""
        both = np.stack([self.chosen_returns, self.default_returns])
        if (both <= -1).any():
            return None
        return measure_outperformance(*both, seed=self.seed)

    def deflated_sharpe(self) -> float | None:
        """Return the deflated Sharpe ratio of the best trial of the last training span.

        That trial was selected among all trials, unlike the returns of the test spans.
        """
        figures = self.performance(self.choices[-1].training_returns)
        return deflated_sharpe(figures, self.trial_count)


def cumulative_growth(returns: Array) -> Array:
    """Return the growth [1 + D] of 1 USD with daily returns [D]."""
    return np.concatenate([[1.0], np.cumprod(1.0 + returns)])


def run_search(settings: BacktestSettings, plan: SearchPlan, progress: Progress) -> SearchResult:
    """Search settings on every training span, and test each choice on the next span.

    settings: default settings of a backtest over the whole period.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    market = settings.load_market()
    folds = build_walk_forward_folds(settings, market, plan.options.spans, plan.options.window)
    return _Search(settings, plan, market, progress).run(folds)


class _Search:
    """A search over one market; belief tables cover all of its instants."""

    def __init__(
        self, settings: BacktestSettings, plan: SearchPlan, market: Market, progress: Progress
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._market = market
        self._progress = progress
        self._tables = BeliefTableCache(market, progress)
        has_crypto = bool(market.bars.crypto.any())
        self._per_year = count_periods_per_year(market.run_bars.times, has_crypto=has_crypto)
        self._configs: set[str] = set()  # digests of the configurations tried
        self._done = 0

    def run(self, folds: Sequence[Fold]) -> SearchResult:
        """Search every fold; return the choices with statistics of all trials."""
        choices: list[SpanChoice] = []
        forecasters: list[str] = []
        tried: list[TrialResult] = []
        for fold in folds:
            choice, tried = self._choose(fold)
            if fold.test_span is not None:
                chosen = self._plan.space.build_variant(self._settings, choice.params)
                tests = self._run_variants([chosen, self._settings], fold.test_span)
                choice = replace(
                    choice, test_returns=tests[0].returns, default_test_returns=tests[1].returns
                )
                forecasters += [each.forecaster for each in tests]
            choices.append(choice)
        return SearchResult(
            market=self._market,
            plan=self._plan,
            choices=tuple(choices),
            trial_count=self._count_trials(),
            overfitting=estimate_overfitting(np.stack([each.returns for each in tried])),
            days_per_year=self._per_year,
            forecasters=tuple(dict.fromkeys(forecasters)),
            seed=self._settings.seed,
        )

    def _choose(self, fold: Fold) -> tuple[SpanChoice, list[TrialResult]]:
        """Return the choice of a training span, not yet tested, and its distinct trials.

        Ties go to the trial drawn first.
        """
        options, space = self._plan.options, self._plan.space
        seed = np.random.SeedSequence([self._settings.seed, fold.number]).generate_state(1)
        sampler = optuna.samplers.TPESampler(seed=int(seed[0]))
        study = optuna.create_study(sampler=sampler, direction="maximize")
        digest = data_hash(fold.training_span.market)
        tried: dict[str, TrialResult] = {}  # by the drawn values
        drawn: list[SearchTrial] = []
        for begin in range(0, options.trials, TRIALS_PER_BATCH):
            count = min(TRIALS_PER_BATCH, options.trials - begin)
            draws = [study.ask(dict(space.distributions)) for _ in range(count)]
            variants = {
                _params_key(draw.params): space.build_variant(self._settings, draw.params)
                for draw in draws
            }
            missing = [name for name in variants if name not in tried]
            results = self._run_variants([variants[name] for name in missing], fold.training_span)
            tried |= dict(zip(missing, results, strict=True))
            self._record_trials(
                fold.training_span.market,
                digest,
                [(variant, tried[name]) for name, variant in variants.items()],
            )
            for k, draw in enumerate(draws):
                result = tried[_params_key(draw.params)]
                value = compute_objective(result.returns, options.objective, self._per_year)
                study.tell(draw, value)
                drawn.append(SearchTrial(begin + k + 1, draw.params, value))
            self._done += count
            self._progress("trials", self._done, options.trials * options.spans)
        params = study.best_params
        trained = tried[_params_key(params)].returns
        choice = SpanChoice(fold, params, study.best_value, trained, tuple(drawn))
        return choice, list(tried.values())

    def _run_variants(
        self, variants: Sequence[BacktestSettings], span: SearchSpan
    ) -> list[TrialResult]:
        """Run variants over a span; return the daily returns and the forecaster of each."""
        options = self._plan.options
        results: dict[int, TrialResult] = {}
        for table, members, forecaster in self._tables.group_variants(variants):
            chosen = [variants[k] for k in members]
            beliefs = _beliefs_within(table, span.market)
            inputs = chosen, span.market, beliefs
            if options.launcher == "ray":
                runs = simulate_variants_on_ray(*inputs, options.ray, per_task=1)
            else:
                runs = simulate_variants(*inputs, workers=options.workers)
            for k, variant, outcome in zip(members, chosen, runs, strict=True):
                returns = span.daily_returns(outcome.equity, variant.capital)
                results[k] = TrialResult(returns, forecaster)
        return [results[k] for k in range(len(variants))]

    def _record_trials(
        self, market: Market, digest: str, tried: Sequence[tuple[BacktestSettings, TrialResult]]
    ) -> int | None:
        """Record runs over the same bars; return the number of trials in the ledger, if any."""
        trials = []
        for variant, (returns, forecaster) in tried:
            figures = self._performance(returns)
            trial = make_trial(
                *(variant, market, digest, forecaster),
                days=len(returns),
                daily_sharpe=figures.daily_sharpe(),
                total_return=figures.total_return,
            )
            if not has_look_ahead(forecaster):
                self._configs.add(trial.config_hash)
            trials.append(trial)
        return record_trials(self._settings.trials, trials)

    def _count_trials(self) -> int:
        """Return the number of all trials on these bars.

        The run of the default settings over the whole period is a trial, too.
        """
        [default] = self._run_variants([self._settings], build_whole_span(self._market))
        recorded = self._record_trials(
            self._market, data_hash(self._market), [(self._settings, default)]
        )
        return len(self._configs) if recorded is None else recorded

    def _performance(self, returns: Array) -> Performance:
        return measure_daily_performance(cumulative_growth(returns), self._per_year)


def compute_objective(returns: Array, objective: str, per_year: int) -> float:
    """Return the objective of daily returns [D].

    `sharpe` is the annual Sharpe ratio, 0 for constant returns; `log_growth` is the logarithmic
    growth per year. The objective of a ruined account is `RUINED_OBJECTIVE`.
    """
    if (returns <= -1).any():
        return RUINED_OBJECTIVE
    if objective == "log_growth":
        return float(np.log1p(returns).mean()) * per_year
    return measure_daily_performance(cumulative_growth(returns), per_year).sharpe or 0.0


def _params_key(params: Mapping[str, Any]) -> str:
    return json.dumps(params, sort_keys=True)


def _beliefs_within(table: BeliefTable, market: Market) -> BeliefTable:
    """Return the rows of a belief table within the run of a market."""
    times = market.bars.times
    inside = (table.instants >= times[market.start_row]) & (table.instants <= times[-1])
    return table.select_rows(np.flatnonzero(inside))
