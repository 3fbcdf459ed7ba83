"""What a run was worth: figures, significance, the ledger of trials, reports."""
