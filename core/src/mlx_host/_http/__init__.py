"""The HTTP server: the application, its middleware and the uvicorn protocol."""
