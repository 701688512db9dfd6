"""What the platform calls: reads HTTP requests, events and queue messages, and passes them to the use cases."""
