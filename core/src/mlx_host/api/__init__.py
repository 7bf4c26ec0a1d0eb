"""OpenAI's endpoints over the host; one module a family."""
