"""Real clients against a running playground: `make clients`."""
