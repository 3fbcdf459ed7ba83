"""Selling of option spreads: rules, settings, orders of legs, open spreads, the seller."""
