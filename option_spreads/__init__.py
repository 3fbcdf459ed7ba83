"""Option spreads: half-Kelly contract counts, live selling, backtests and a Monte Carlo."""

from foundation.cli import Command

COMMANDS = {
    "contracts": Command(
        "option_spreads.contracts",
        config="autoscaling",
        interrupted="nothing was sent",
        private=True,
    ),
    "sell_spreads": Command(
        "option_spreads.sell",
        config="sell_spreads",
        interrupted="what is open stays open and is not watched; start again to go on",
        log="sell_spreads",
        private=True,
    ),
    "spread_backtest": Command(
        "option_spreads.backtest",
        config="spreads",
        output="spreads.json",
        keys=("index", "account"),
        log="spreads",
        hydra=True,
    ),
    "monte_carlo": Command(
        "option_spreads.monte_carlo",
        config="monte_carlo",
        output="monte_carlo.json",
        keys=("trades", "starting_capital"),
        log="monte_carlo",
        hydra=True,
        extras={"matplotlib": "pictures"},
    ),
}
SETTINGS = {
    "autoscaling": "option_spreads.autoscaler.rules:AutoscalingSettings",
    "spreads": "option_spreads.simulation.settings:SpreadSettings",
    "sell_spreads": "option_spreads.selling.settings:SellingSettings",
    "monte_carlo": "option_spreads.simulation.settings:MonteCarloSettings",
    "venue": "option_spreads.simulation.settings:PracticeSettings",
}
