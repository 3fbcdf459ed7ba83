"""Option spreads: contracts by half-Kelly, the account that sells them, what a year may bring."""

# What is registered, by kinds of `foundation.registry`.
COMMANDS = {
    "contracts": "option_spreads.contracts",
    "sell_spreads": "option_spreads.sell",
    "spread_backtest": "option_spreads.backtest",
    "monte_carlo": "option_spreads.monte_carlo",
}
JOBS = {"spreads": "option_spreads.selling.job"}
DESKS = {"options": "option_spreads.simulation.desk"}
