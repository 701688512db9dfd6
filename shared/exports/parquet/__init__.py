"""Parquet, as far as an export writes it."""
