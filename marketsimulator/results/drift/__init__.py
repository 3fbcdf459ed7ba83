"""Drift: a live account compared with its simulation: decisions, orders, profit terms, report."""
