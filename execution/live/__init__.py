"""The live account's cycle: read, decide, send."""
