"""The engine process: loads GPT-J and decodes for all streams at once. Only here is torch imported."""
