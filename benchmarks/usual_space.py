"""The usual Space, as a baseline: one file, a generator over `generate` and a streamer.

    python benchmarks/usual_space.py FOLDER PORT [--unlimited]

This is how most Spaces serve a causal language model. With `--unlimited` visitors do not wait for
each other: each has a `generate` of their own at the same time.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from threading import Thread

import gradio as gr
from common import TEMPERATURE, TOP_P
from transformers import AutoModelForCausalLM, AutoTokenizer, TextIteratorStreamer


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("model")
    parser.add_argument("port", type=int)
    parser.add_argument("--unlimited", action="store_true")
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype="float32").eval()

    def generate(prompt: str, max_new_tokens: int = 120) -> Iterator[str]:
        inputs = tokenizer(prompt, return_tensors="pt")
        streamer = TextIteratorStreamer(tokenizer, skip_prompt=True)
        options = {
            **inputs,
            "max_new_tokens": int(max_new_tokens),
            "do_sample": True,
            "temperature": TEMPERATURE,
            "top_p": TOP_P,
            "pad_token_id": tokenizer.eos_token_id,
            "streamer": streamer,
        }
        Thread(target=model.generate, kwargs=options).start()
        text = ""
        for piece in streamer:
            text += piece
            yield text

    with gr.Blocks() as page:
        prompt = gr.Textbox(label="Prompt")
        length = gr.Slider(1, 1000, value=120, step=1, label="Tokens")
        button = gr.Button("Generate")
        output = gr.Textbox(label="Text")
        limit = None if arguments.unlimited else 1  # 1 is Gradio's default
        button.click(
            generate, [prompt, length], output, api_name="generate", concurrency_limit=limit
        )
    page.queue().launch(
        server_port=arguments.port, max_threads=100 if arguments.unlimited else 40, quiet=True
    )


if __name__ == "__main__":
    main()
