"""Alpaca: accounts, orders, order news and options."""
