"""Ways to run over bars: by instant, whole variants compiled, given weights."""
