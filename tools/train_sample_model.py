#!/usr/bin/env python3
"""Train the sample model: a GPT-J small enough to ship with the code.

The playground must work with no GPU and no download, so it carries a GPT-J of its own: the very
architecture (parallel blocks, interleaved rotary on part of each head, an untied head with bias, an
embedding padded past the vocabulary), only small. This script makes it, from a folder of plain text
to a folder that `AutoModelForCausalLM` and `AutoTokenizer` load:

    python tools/train_sample_model.py CORPUS --minutes 120          # makes assets/sample-model
    python tools/train_sample_model.py CORPUS --minutes 120 --resume # goes on where it was stopped
    python tools/train_sample_model.py CORPUS --evaluate assets/sample-model

CORPUS is a folder with `train.txt.xz` and `valid.txt.xz`: documents separated by lines that hold
only `<|endoftext|>`. The schedule follows the clock, so training ends when `--minutes` are over on
any machine; the seed fixes the initial weights and the order of the windows.

Choices: Muon (Jordan et al. 2024) for the matrices of the blocks and AdamW for the rest learns more
from a token than AdamW alone; windows that grow to the full context see more text in the same time
than full windows throughout, and the last quarter of the time teaches the long reach.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import lzma
import math
import os
import sys
import time
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tqdm import tqdm
from transformers import GenerationConfig, GPTJConfig, GPTJForCausalLM, PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
VOCABULARY = 4096  # tokens that stand for text, END_OF_TEXT among them
PADDED_VOCABULARY = 4160  # rows of the embedding: the rest is never seen in text, as in GPT-J
CONTEXT = 1024
WINDOWS = ((0.0, 256), (0.5, 512), (0.75, CONTEXT))  # from this share of the time on, this length
TOKENS_PER_STEP = 8192
WARM_UP_STEPS = 100
COOL_DOWN_FROM = 0.35  # share of the time after which the learning rate falls, linearly to zero
MUON_LEARNING_RATE = 0.03
ADAM_LEARNING_RATE = 0.01
SEED = 20
SAMPLE_BEGINNINGS = (
    "Once upon a time",
    "The old lighthouse keeper opened the letter and read it twice.",
    '"Where are you going?" asked the little fox.',
    "It was a cold night, and",
)


def read_documents(path: Path) -> list[str]:
    """The documents of an xz-compressed text file, without the separator lines around them."""
    with lzma.open(path, "rt", encoding="utf-8") as file:
        text = file.read()
    documents = (document.strip("\n") for document in text.split(END_OF_TEXT))
    return [document for document in documents if document]


def train_tokenizer(documents: list[str]) -> Tokenizer:
    """A byte-level BPE tokenizer in the manner of GPT-2, with `END_OF_TEXT` as id 0."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    return tokenizer


def tokenize(tokenizer: Tokenizer, documents: list[str]) -> list[np.ndarray]:
    """Each document as token ids, between two `END_OF_TEXT`."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    encodings = tokenizer.encode_batch_fast(documents)
    return [np.array([end, *encoding.ids, end], dtype=np.int64) for encoding in encodings]


def rotary_tables(config: GPTJConfig, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sine and cosine for each position and pair of dimensions: [length, 1, rotary_dim / 2]."""
    pairs = torch.arange(0, config.rotary_dim, 2, dtype=torch.float32) / config.rotary_dim
    angles = torch.arange(length, dtype=torch.float32)[:, None] / (10000**pairs)
    return angles.sin()[:, None], angles.cos()[:, None]


def training_loss(
    model: GPTJForCausalLM,
    sine: torch.Tensor,
    cosine: torch.Tensor,
    inputs: torch.Tensor,
    targets: torch.Tensor,
) -> torch.Tensor:
    """Cross-entropy of `GPTJForCausalLM` in nats a token, over a fused forward pass.

    The same function as the model's own `forward`, which computes attention in eager fp32 and takes
    three times as long. `inputs` and `targets` are [batch, length]; `main` checks the agreement.
    """
    config = model.config
    batch, length = inputs.shape
    heads, head_dim, rotary = config.n_head, config.n_embd // config.n_head, config.rotary_dim
    sine, cosine = sine[:length], cosine[:length]

    def rotate(x: torch.Tensor) -> torch.Tensor:  # [batch, length, heads, head_dim]
        even, odd = x[..., :rotary:2], x[..., 1:rotary:2]
        pairs = (even * cosine - odd * sine, odd * cosine + even * sine)
        turned = torch.stack(pairs, dim=-1).flatten(-2).to(x.dtype)
        return torch.cat((turned, x[..., rotary:]), dim=-1).transpose(1, 2)

    hidden = model.transformer.wte(inputs)  # [batch, length, d_model]
    for block in model.transformer.h:
        normed = block.ln_1(hidden)
        attention = block.attn
        qkv_weight = torch.cat(
            (attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight)
        )
        query, key, value = (
            part.view(batch, length, heads, head_dim)
            for part in F.linear(normed, qkv_weight).chunk(3, dim=-1)
        )
        mixed = F.scaled_dot_product_attention(
            rotate(query), rotate(key), value.transpose(1, 2), is_causal=True
        )
        mixed = attention.out_proj(mixed.transpose(1, 2).flatten(2))
        hidden = hidden + mixed + block.mlp(normed)
    logits = model.lm_head(model.transformer.ln_f(hidden))  # [batch, length, padded_vocabulary]
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def bits_per_byte(
    model: GPTJForCausalLM, tokenizer: Tokenizer, documents: list[str], progress: bool = True
) -> float:
    """Bits the model spends on a byte of text, each document cut into windows of the full context.

    Every token is predicted once, `END_OF_TEXT` at a document's end too, from what stands before
    it in its window; only the documents' own bytes count, so separators just add to the cost.
    """
    device = next(model.parameters()).device
    context = model.config.n_positions
    sequences = tokenize(tokenizer, documents)
    nats = 0.0
    windows = [
        (sequence[start : start + context], sequence[start + 1 : start + context + 1])
        for sequence in sequences
        for start in range(0, len(sequence) - 1, context)
    ]
    for inputs, targets in tqdm(windows, desc="evaluating", unit="window", disable=not progress):
        inputs = inputs[: len(targets)]
        with torch.inference_mode():
            logits = model(torch.from_numpy(inputs)[None].to(device), use_cache=False).logits[0]
            target = torch.from_numpy(targets).to(device)
            nats += F.cross_entropy(logits.float(), target, reduction="sum").item()
    return nats / math.log(2) / sum(len(document.encode()) for document in documents)


def learning_rate_factor(step: int, progress: float) -> float:
    """Warm-up, then constant, then a straight line to zero at the end of the time."""
    warm_up = min(1.0, (step + 1) / WARM_UP_STEPS)
    return warm_up * min(1.0, (1.0 - progress) / (1.0 - COOL_DOWN_FROM))


def save_model(folder: Path, model: GPTJForCausalLM, tokenizer: Tokenizer) -> None:
    """Write weights (fp16 safetensors), configurations and tokenizer as transformers reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    half = GPTJForCausalLM(model.config).half()
    half.load_state_dict(model.state_dict())
    half.generation_config = GenerationConfig(
        bos_token_id=0, eos_token_id=0, do_sample=True, temperature=0.8, top_p=0.95
    )
    half.save_pretrained(folder)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    fast.save_pretrained(folder)
    # transformers indents the merges, which triples the size of the file
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()), ensure_ascii=False), "utf-8")


def build_model(arguments: argparse.Namespace) -> GPTJForCausalLM:
    config = GPTJConfig(
        vocab_size=PADDED_VOCABULARY,
        n_positions=CONTEXT,
        n_embd=arguments.width,
        n_layer=arguments.layers,
        n_head=arguments.heads,
        rotary_dim=arguments.width // arguments.heads // 2,
        bos_token_id=0,
        eos_token_id=0,
    )
    torch.manual_seed(SEED)
    return GPTJForCausalLM(config)


def train(arguments: argparse.Namespace) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    tokenizer_path, checkpoint_path = work / "tokenizer.json", work / "checkpoint.pt"

    documents = read_documents(arguments.corpus / "train.txt.xz")
    if arguments.resume and tokenizer_path.exists():
        tokenizer = Tokenizer.from_file(str(tokenizer_path))
    else:
        tokenizer = train_tokenizer(documents)
        tokenizer.save(str(tokenizer_path))
    tokens = np.concatenate([sequence[1:] for sequence in tokenize(tokenizer, documents)])
    print(f"{len(documents):,} documents, {len(tokens):,} tokens", file=sys.stderr)

    model = build_model(arguments).to(device)
    matrices = [p for name, p in model.named_parameters() if ".h." in name and p.ndim == 2]
    others = [p for name, p in model.named_parameters() if ".h." not in name or p.ndim != 2]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=MUON_LEARNING_RATE, weight_decay=0.02),
        torch.optim.AdamW(others, lr=ADAM_LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    base_rates = (MUON_LEARNING_RATE, ADAM_LEARNING_RATE)
    generator = np.random.default_rng(SEED)
    step, elapsed, seen = 0, 0.0, 0
    if arguments.resume and checkpoint_path.exists():
        state = torch.load(checkpoint_path, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step, elapsed, seen = state["step"], state["elapsed"], state["seen"]
        generator.bit_generator.state = json.loads(state["generator"])
    tables = [table.to(device) for table in rotary_tables(model.config, CONTEXT)]

    probe = torch.from_numpy(tokens[: WINDOWS[0][1] + 1])[None].to(device)
    with torch.inference_mode():
        ours = training_loss(model, *tables, probe[:, :-1], probe[:, 1:]).item()
        theirs = model(probe, labels=probe).loss.item()
    if abs(ours - theirs) > 1e-3:
        raise SystemExit(f"the fused forward pass gives {ours}, transformers gives {theirs}")

    loss_function = torch.compile(training_loss) if arguments.compile else training_loss

    def save_checkpoint() -> None:
        partial = checkpoint_path.with_suffix(".partial")
        torch.save(
            {
                "model": model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "step": step,
                "elapsed": elapsed,
                "seen": seen,
                "generator": json.dumps(generator.bit_generator.state),
            },
            partial,
        )
        os.replace(partial, checkpoint_path)

    budget = arguments.minutes * 60
    bar = tqdm(total=round(budget), initial=round(elapsed), unit="s", desc="training")
    smooth_loss, last, last_saved = None, time.monotonic(), time.monotonic()
    while elapsed < budget:
        progress = elapsed / budget
        window = next(length for share, length in reversed(WINDOWS) if progress >= share)
        starts = generator.integers(0, len(tokens) - window - 1, TOKENS_PER_STEP // window)
        batch = np.stack([tokens[start : start + window + 1] for start in starts])
        inputs = torch.from_numpy(batch).to(device)
        factor = learning_rate_factor(step, progress)
        for optimizer, rate in zip(optimizers, base_rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
        autocast: contextlib.AbstractContextManager[Any] = torch.autocast(
            device.type, dtype=torch.bfloat16
        )
        with autocast:
            loss = loss_function(model, *tables, inputs[:, :-1], inputs[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        value = loss.item()
        smooth_loss = value if smooth_loss is None else 0.98 * smooth_loss + 0.02 * value
        step, seen = step + 1, seen + TOKENS_PER_STEP
        now = time.monotonic()
        elapsed, last = elapsed + now - last, now
        bar.update(max(0, round(elapsed) - bar.n))
        bar.set_postfix(loss=f"{smooth_loss:.4f}", step=step, tokens=f"{seen / 1e6:.1f}M")
        if now - last_saved > 120:
            save_checkpoint()
            last_saved = now
    bar.close()
    save_checkpoint()

    training = {
        "steps": step,
        "tokens_seen": seen,
        "tokens_in_corpus": len(tokens),
        "minutes": round(elapsed / 60, 1),
        "parameters": sum(p.numel() for p in model.parameters()),
        "seed": SEED,
        "torch": torch.__version__.split("+")[0],
        "processor": processor_name(device),
    }
    save_model(arguments.out, model, tokenizer)
    value = evaluate(arguments.out, read_documents(arguments.corpus / "valid.txt.xz"))
    write_card(arguments.out, training, value)


def processor_name(device: torch.device) -> str:
    """The GPU's name, or the number of cores that computed."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} CPU cores"


def write_card(folder: Path, training: dict[str, Any], value: float) -> None:
    """The model card: what was measured and a few samples, in the text of sample_model_card.md."""
    model = GPTJForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    samples = []
    for seed, beginning in enumerate(SAMPLE_BEGINNINGS, start=1):
        torch.manual_seed(seed)
        inputs = tokenizer(beginning, return_tensors="pt", return_token_type_ids=False)
        output = model.generate(**inputs, max_new_tokens=100, pad_token_id=0)[0]
        continuation = tokenizer.decode(output, skip_special_tokens=True)[len(beginning) :]
        quoted = (beginning, continuation.rstrip().replace("\n\n", "\n>\n> "))
        samples.append("> **{}**{}".format(*quoted))
    config = model.config
    heads = config.n_head
    template = Template((Path(__file__).parent / "sample_model_card.md").read_text("utf-8"))
    card = template.substitute(
        parameters=f"{training['parameters'] / 1e6:.1f} million",
        layers=config.n_layer,
        width=config.n_embd,
        heads=heads,
        head_dim=config.n_embd // heads,
        rotary_dim=config.rotary_dim,
        context=config.n_positions,
        vocabulary=f"{len(tokenizer):,}",
        rows=f"{config.vocab_size:,}",
        bits_per_byte=f"{value:.3f}",
        epochs=f"{training['tokens_seen'] / training['tokens_in_corpus']:.1f}",
        samples_count=len(samples),
        samples="\n\n---\n\n".join(samples),
        seed=training["seed"],
        torch=training["torch"],
        steps=f"{training['steps']:,}",
        tokens_seen=f"{training['tokens_seen']:,}",
        tokens_in_corpus=f"{training['tokens_in_corpus']:,}",
        minutes=f"{training['minutes']:.0f}",
        processor=training["processor"],
    )
    (folder / "README.md").write_text(card, "utf-8")


def evaluate(folder: Path, documents: list[str]) -> float:
    """Print and return the bits per byte of a saved model, in fp32 over its fp16 weights."""
    model = GPTJForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    value = bits_per_byte(model, tokenizer, documents)
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(
        f"{folder}: {value:.4f} bits per byte in windows of {model.config.n_positions} tokens, "
        f"{sum(p.numel() for p in model.parameters()):,} parameters, {size:,} bytes on disk"
    )
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("corpus", type=Path, help="folder with train.txt.xz and valid.txt.xz")
    parser.add_argument("--out", type=Path, default=Path("assets/sample-model"))
    parser.add_argument("--work", type=Path, default=Path(".training"), help="checkpoints go here")
    parser.add_argument("--minutes", type=float, default=120.0, help="time to train")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--evaluate", type=Path, metavar="FOLDER", help="measure, do not train")
    parser.add_argument("--width", type=int, default=192, help="d_model")
    parser.add_argument("--layers", type=int, default=7)
    parser.add_argument("--heads", type=int, default=3)
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    arguments = parser.parse_args()
    for name in ("valid.txt.xz",) if arguments.evaluate else ("train.txt.xz", "valid.txt.xz"):
        if not (arguments.corpus / name).is_file():
            parser.error(f"no {name} in {arguments.corpus}")
    if arguments.evaluate:
        evaluate(arguments.evaluate, read_documents(arguments.corpus / "valid.txt.xz"))
    else:
        train(arguments)


if __name__ == "__main__":
    main()
