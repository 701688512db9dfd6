"""All records as a table, in Parquet: written step by step, in the order of names."""
