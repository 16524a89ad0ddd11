"""The engine process: loads GPT-J and decodes for all streams. Only this package imports torch."""
