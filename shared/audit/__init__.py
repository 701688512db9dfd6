"""All images: what is missing, stale or orphaned, found and put on the queue."""
