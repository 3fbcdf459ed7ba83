"""Walk-forward search for settings: search space, spans of days, trials, report."""
