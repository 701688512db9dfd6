"""The index of search, compared with the records that it is made from, and mended."""
