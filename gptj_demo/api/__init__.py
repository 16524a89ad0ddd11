"""The HTTP API: OpenAI's completions, access control, health and metrics."""
