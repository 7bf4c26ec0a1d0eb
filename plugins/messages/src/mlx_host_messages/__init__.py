"""mlx-host plugin for Anthropic's Messages API."""
