"""Blob Storage and its queues: where everything lives and how it is read and written."""
