"""What would have happened: settlement, the simulated broker, the backtest, its metrics and its report."""
