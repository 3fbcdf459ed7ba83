"""Stress test of an account: its book, scenarios, their outcomes, report."""
