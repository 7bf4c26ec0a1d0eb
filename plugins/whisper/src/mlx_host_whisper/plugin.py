"""The entry point of the backend whisper."""
