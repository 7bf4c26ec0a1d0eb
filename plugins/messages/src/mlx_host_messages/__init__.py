"""mlx-host's plugin for Anthropic's dialect, POST /v1/messages."""
