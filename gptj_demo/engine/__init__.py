"""The engine process: loads GPT-J and decodes for all streams. Only here is torch imported."""
