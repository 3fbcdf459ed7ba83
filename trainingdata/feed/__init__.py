"""Market data from a venue: stock and crypto bars, option chains, and their transport."""
