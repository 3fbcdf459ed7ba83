"""Kalshi's event contracts: sized actions, orders, what admits them, fees, the account."""
