"""The benchmarks: how fast and how lean, each figure next to what people use instead. Run ``python -m bench``."""
