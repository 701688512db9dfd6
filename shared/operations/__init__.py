"""The running app: its health, its progress, and the length of its queues."""
