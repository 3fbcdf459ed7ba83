"""What may happen next: quantile forecasts and the moments sizing reads from them."""
