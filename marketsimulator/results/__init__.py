"""Results of runs: figures, statistical significance, trial ledger and reports."""
