"""What every HTTP request passes before a route: hosts, origins, open routes, headers, failures."""
