"""Option spreads: half-Kelly contract counts, live selling, backtests and a Monte Carlo."""

from foundation.cli import Command

COMMANDS = {
    "contracts": Command(
        "option_spreads.contracts",
        config="autoscaling",
        interruption_text="no order was sent",
        is_private=True,
    ),
    "sell_spreads": Command(
        "option_spreads.sell",
        config="sell_spreads",
        interruption_text="open spreads stay open and are not monitored; restart to resume",
        log_name="sell_spreads",
        is_private=True,
    ),
    "spread_backtest": Command(
        "option_spreads.backtest",
        config="spreads",
        marker_file="spreads.json",
        marker_keys=("index", "account"),
        log_name="spreads",
        takes_hydra_flags=True,
    ),
    "monte_carlo": Command(
        "option_spreads.monte_carlo",
        config="monte_carlo",
        marker_file="monte_carlo.json",
        marker_keys=("trades", "starting_capital"),
        log_name="monte_carlo",
        takes_hydra_flags=True,
        extra_by_library={"matplotlib": "pictures"},
    ),
}
SETTINGS = {
    "autoscaling": "option_spreads.autoscaler.rules:AutoscalingSettings",
    "spreads": "option_spreads.simulation.settings:SpreadSettings",
    "sell_spreads": "option_spreads.selling.settings:SellingSettings",
    "monte_carlo": "option_spreads.simulation.settings:MonteCarloSettings",
}
