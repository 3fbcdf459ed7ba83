"""The live loop of an account, and an operator's commands: status, clear, kill."""
