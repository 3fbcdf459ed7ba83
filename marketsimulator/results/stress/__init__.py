"""An account under stress: what it holds, scenarios, their outcomes, report."""
