"""Core's API families: each is a package, registered with `register_apis` like those of plugins."""
