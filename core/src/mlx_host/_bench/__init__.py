"""`mlx-host bench`: measures latency and throughput of an OpenAI-compatible server at several concurrencies."""
