"""The benchmarks: how fast and how lean, each figure beside what people use instead. Run ``python -m bench``."""
