"""The ways to run an engine; see `base.Backend`."""
