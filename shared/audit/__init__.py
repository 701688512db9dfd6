"""All images: find what is missing, stale or orphaned, and queue it for a sync."""
