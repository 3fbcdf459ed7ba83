"""Trading of Kalshi's event contracts: sized actions, orders, admission, fees, the account."""
