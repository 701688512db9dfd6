"""Queries: embedded, cached and answered, in each wire format that the app speaks."""
