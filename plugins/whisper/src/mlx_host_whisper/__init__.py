"""mlx-host backend for speech-to-text, built on mlx-whisper."""
