"""mlx-host's backend for speech, on mlx-whisper."""
