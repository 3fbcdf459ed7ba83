r"""Search for better settings: choose them on one span of days, test them on the next.

    python -m marketsimulator.search 'space={sizing.arguments.fast: [5, 50], limits.symbol_cap:
        [0.2, 0.6], sizing.strategy: [kelly_25, kelly_50]}' [trials=50] [objective=log_growth]
        [spans=5] [key=value …]

`[low, high]` is a range (of integers if both are), `[low, high, log]` one on a logarithmic scale;
any other list, or `{choices: [5, 50]}`, is a choice. Optuna runs `trials` trials on each training
span. The best settings by the objective trade the next span; all test spans form one out-of-sample
account. It is compared with the default settings, those of the command line without the space.

The trial ledger records every trial. The verdict is "nothing found" unless the outperformance is
significant and the deflated Sharpe ratio is at least 95%. Results depend on the seed, not on
`workers` and `launcher`.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("marketsimulator.search")

from dataclasses import dataclass, fields

from omegaconf import DictConfig, OmegaConf

from forecasting.forecast import Progress
from foundation.cli import Result
from foundation.settings import settings_from_config
from marketsimulator.results.search.options import SearchOptions
from marketsimulator.results.search.report import SearchReport
from marketsimulator.results.search.space import UNSEARCHABLE_KEYS, SearchSpace
from marketsimulator.results.search.walk import SearchPlan, run_search
from marketsimulator.results.trials import check_ledger
from marketsimulator.settings import BacktestSettings

SEARCH_OPTION_NAMES = tuple(each.name for each in fields(SearchOptions))


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """Settings of a search: its plan, and the default settings of a backtest."""

    plan: SearchPlan
    backtest_settings: BacktestSettings

    @classmethod
    def from_config(cls, config: DictConfig) -> SearchSettings:
        """Validate a composed configuration and return its settings."""
        options = settings_from_config(
            SearchOptions, OmegaConf.masked_copy(config, list(SEARCH_OPTION_NAMES))
        )
        keys = [str(key) for key in config if key not in SEARCH_OPTION_NAMES]
        backtest = OmegaConf.masked_copy(config, keys)
        OmegaConf.set_readonly(backtest, False)
        backtest.trials = options.ledger
        settings = BacktestSettings.from_config(backtest)
        space = SearchSpace.parse(options.space, settings, UNSEARCHABLE_KEYS)
        return cls(SearchPlan(space, options), settings)


def run(settings: SearchSettings, progress: Progress) -> Result:
    """Run a search; return its verdict, tables and files."""
    backtest = settings.backtest_settings
    check_ledger(backtest.trials, "ledger")
    result = run_search(backtest, settings.plan, progress)
    report = SearchReport(result, has_ledger=backtest.trials is not None)
    return Result(
        [report.verdict.claim, report.total_figure_table(), report.chosen_settings_table()],
        report.sentences(),
        report.file_writers(),
    )
