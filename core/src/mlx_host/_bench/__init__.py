"""`mlx-host bench` measures any OpenAI-compatible server: latency and throughput at several concurrencies."""
