"""Search: which images are nearest to a query, and the index that answers it, derived from the records."""
