"""TIFF: what its header says, and its pixels as exactly that."""
