"""Queries: embedded, cached and answered, in each format in which they are asked."""
