"""Trading of Kalshi's event contracts: sized actions, orders, their checks, fees, the account."""
