"""The API that programs speak: OpenAI's completions, and what a service needs beside them."""
