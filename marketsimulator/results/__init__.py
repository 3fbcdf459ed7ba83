"""Results of runs: performance figures, statistical significance, trial ledger and reports."""
