"""OpenAI's image generation and editing."""
