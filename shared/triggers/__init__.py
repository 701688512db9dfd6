"""What the platform calls: HTTP requests and queue messages, read and handed to the use cases."""
