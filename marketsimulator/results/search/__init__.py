"""Search for settings: search space, spans of days, trials, and the report."""
