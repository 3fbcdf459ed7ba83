"""A live account beside the simulation of its hours: decisions, orders, terms of profit, report."""
