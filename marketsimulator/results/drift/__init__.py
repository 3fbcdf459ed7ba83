"""Drift between a live account and its simulation: decisions, orders, profit terms, report."""
