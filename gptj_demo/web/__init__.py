"""Middleware before all routes: hosts, origins, open routes, headers, failures."""
