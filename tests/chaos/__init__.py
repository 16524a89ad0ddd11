"""Programs that break things on purpose, and report what held; `make chaos` runs them."""
