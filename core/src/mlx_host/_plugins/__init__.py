"""Plugin discovery, and the model sources that core itself knows."""
