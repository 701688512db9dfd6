"""The embedding model: its client, its wire format, its rate limiter."""
