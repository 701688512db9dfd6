"""The upkeep of the index: logs become segments, small segments large ones, and what counts no more is dropped."""
