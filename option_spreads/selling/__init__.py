"""Live selling of option spreads: rules, settings, open spreads and the seller."""
