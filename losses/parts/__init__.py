"""What losses are composed of: small pure functions."""
