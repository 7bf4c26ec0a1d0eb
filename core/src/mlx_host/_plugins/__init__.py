"""Plugin discovery, and core's own model sources."""
