"""What is known about the market: instruments, sessions, bars, correlation."""
