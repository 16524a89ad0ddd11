"""The networks: a small GPT-J and its draft, and a fast forward pass for training them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from transformers import GPTJConfig, GPTJForCausalLM

CONTEXT = 1024


@dataclass(frozen=True)
class Shape:
    """Layers, d_model, and heads of a GPT-J."""

    layers: int
    width: int
    heads: int


STORYTELLER = Shape(layers=6, width=256, heads=4)
DRAFT = Shape(layers=3, width=128, heads=2)
"""For speculative decoding: the storyteller's tokenizer and a quarter of its work a token."""


def has_bfloat16(device: torch.device) -> bool:
    """Whether `device` has instructions for products in bfloat16, with sums in float32."""
    if device.type == "cuda":
        return True
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def build_model(
    shape: Shape, vocabulary: int, seed: int, context: int = CONTEXT
) -> GPTJForCausalLM:
    """Return a GPT-J with random weights whose blocks are the identity at first."""
    config = GPTJConfig(
        vocab_size=vocabulary,
        n_positions=context,
        n_embd=shape.width,
        n_layer=shape.layers,
        n_head=shape.heads,
        rotary_dim=shape.width // shape.heads // 2,
        bos_token_id=0,
        eos_token_id=0,
        attn_pdrop=0.0,
        embd_pdrop=0.0,
        resid_pdrop=0.0,
    )
    torch.manual_seed(seed)
    model = GPTJForCausalLM(config)
    for block in model.transformer.h:
        torch.nn.init.zeros_(block.attn.out_proj.weight)
        torch.nn.init.zeros_(block.mlp.fc_out.weight)
    return model


def rotary_tables(config: GPTJConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Return sine and cosine of each position and pair: [context, 1, rotary_dim / 2]."""
    pairs = torch.arange(0, config.rotary_dim, 2, dtype=torch.float32) / config.rotary_dim
    angles = torch.arange(config.n_positions, dtype=torch.float32)[:, None] / (10000**pairs)
    return angles.sin()[:, None], angles.cos()[:, None]


def forward(
    model: GPTJForCausalLM,
    sine: torch.Tensor,
    cosine: torch.Tensor,
    inputs: torch.Tensor,
    dropout: float = 0.0,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Return logits [batch, length, padded_vocabulary] for token ids [batch, length].

    The same function as `GPTJForCausalLM`, which computes attention in eager fp32 and takes three
    times as long. `dropout` applies to the embeddings and to what each block adds to them;
    `generator` draws it.
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

    def drop(x: torch.Tensor) -> torch.Tensor:
        if not dropout:
            return x
        kept = torch.empty_like(x).bernoulli_(1 - dropout, generator=generator)
        return x * kept / (1 - dropout)

    hidden = drop(model.transformer.wte(inputs))  # [batch, length, d_model]
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
        activated = F.gelu(block.mlp.fc_in(normed), approximate="tanh")
        hidden = hidden + drop(mixed + block.mlp.fc_out(activated))
    return model.lm_head(model.transformer.ln_f(hidden))


def training_loss(
    model: GPTJForCausalLM,
    sine: torch.Tensor,
    cosine: torch.Tensor,
    windows: torch.Tensor,
    dropout: float = 0.0,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Return the mean cross-entropy in nats of `windows` [batch, length + 1]."""
    logits = forward(model, sine, cosine, windows[:, :-1], dropout, generator)
    return F.cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten())


def check_forward(model: GPTJForCausalLM, windows: torch.Tensor) -> None:
    """Raise `RuntimeError` where `training_loss` differs from the loss of transformers."""
    tables = [table.to(windows.device) for table in rotary_tables(model.config)]
    with torch.no_grad():
        ours = training_loss(model, *tables, windows).item()
        logits = model(windows[:, :-1], use_cache=False).logits
        theirs = F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten()).item()
    if not abs(ours - theirs) < 1e-3:
        raise RuntimeError(f"the fast forward pass gives {ours}, transformers gives {theirs}")
