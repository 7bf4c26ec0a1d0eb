"""Health and queue statistics."""
