"""OpenAI's transcription and translation."""
