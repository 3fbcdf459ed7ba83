"""Kalshi's practice account: orders, markets and lists at the simulated exchange."""
