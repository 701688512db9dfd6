"""The running app: whether it is healthy, how far it is, and what waits."""
