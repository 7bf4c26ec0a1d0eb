"""Core's own API families, each a package registered through `register_apis` like anyone else's."""
