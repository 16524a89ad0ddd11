"""Training that can be killed at any moment and resumed from its last checkpoint."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GPTJForCausalLM

from . import schedule
from .corpus import SIMPLE, STORIES, WindowStream
from .muon import Muon
from .network import check_forward, has_bfloat16, rotary_tables, training_loss

SEED = 20
MUON_RATE, EMBEDDING_RATE, HEAD_RATE, OTHER_RATE = 0.03, 0.01, 0.006, 0.005
MUON_DECAY = 0.05
EMA_DECAY = 0.995
"""The average of the weights reaches back about 200 steps."""
_CPU_TOKENS_PER_PASS = 1024
"""On the CPU a step is split into passes of this many tokens, one thread each. Threads that share
passes instead of products wait for each other once a step, which matters on a busy machine."""


class Training:
    """Model, moving average, optimizers and streams: everything a checkpoint holds."""

    def __init__(
        self,
        model: GPTJForCausalLM,
        corpora: dict[str, np.ndarray],
        *,
        dropout: float = 0.0,
        compile: bool = False,
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device)
        self.average = {name: p.detach().clone() for name, p in model.named_parameters()}
        self._threads = ThreadPoolExecutor(
            torch.get_num_threads(), initializer=torch.set_num_threads, initargs=(1,)
        )
        self.optimizers = _make_optimizers(model, self._threads)
        self.streams = {name: WindowStream(tokens, SEED) for name, tokens in corpora.items()}
        self.generator = np.random.default_rng(SEED)
        self.step = self.seen = self.cool_down_from = self.cool_down_tokens = 0
        self.seconds = 0.0
        self.dropout = dropout
        self._tables = [table.to(self.device) for table in rotary_tables(model.config)]
        self._loss = torch.compile(training_loss, dynamic=False) if compile else training_loss
        self._compiled: set[torch.Size] = set()
        self._parameters = list(model.parameters())
        probe = self.streams[STORIES].take(1, min(256, model.config.n_positions))
        self.streams[STORIES] = WindowStream(corpora[STORIES], SEED)
        check_forward(self.model, torch.from_numpy(probe).to(self.device))

    @property
    def cool_down(self) -> float:
        """The part of the cool-down that is done; 0 in the stable phase."""
        if not self.cool_down_tokens:
            return 0.0
        return min(1.0, (self.seen - self.cool_down_from) / self.cool_down_tokens)

    def begin_cool_down(self, tokens: int) -> None:
        """Make the next `tokens` tokens the last ones, with a falling learning rate."""
        self.cool_down_from, self.cool_down_tokens = self.seen, tokens

    def run_step(self) -> float:
        """Train on one batch and return its loss in nats a token."""
        begin = time.monotonic()
        factor = schedule.learning_rate_factor(self.step, self.cool_down)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["base_rate"] * factor
        passes = self._take_batch()
        losses = self._run_passes(passes)
        for index, parameter in enumerate(self._parameters):
            # summed in the order of the passes: the result does not depend on the threads
            total = sum(gradients[index] for _, gradients in losses)
            parameter.grad = total / len(passes)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self._update_average()
        self.step += 1
        self.seen += schedule.TOKENS_PER_STEP
        self.seconds += time.monotonic() - begin
        return sum(loss for loss, _ in losses) / len(passes)

    def _run_passes(
        self, passes: list[torch.Tensor]
    ) -> list[tuple[float, tuple[torch.Tensor, ...]]]:
        """Loss and gradients of each pass.

        The first pass of a new shape runs alone: threads that compile at once can wait for each
        other for ever.
        """
        numbered = list(enumerate(passes))
        shape = passes[0].shape
        alone = 0 if shape in self._compiled else 1
        self._compiled.add(shape)
        run = self._threads.map
        return [
            *run(lambda one: self._run_pass(*one), numbered[:alone]),
            *run(lambda one: self._run_pass(*one), numbered[alone:]),
        ]

    def _run_pass(
        self, index: int, windows: torch.Tensor
    ) -> tuple[float, tuple[torch.Tensor, ...]]:
        """Loss and gradients of the step's pass `index`."""
        generator = None
        if self.dropout:
            generator = torch.Generator(self.device).manual_seed(self.step * 1000 + index)
        with torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=has_bfloat16(self.device)
        ):
            loss = self._loss(self.model, *self._tables, windows, self.dropout, generator)
        return loss.item(), torch.autograd.grad(loss, self._parameters)

    def _take_batch(self) -> list[torch.Tensor]:
        """The windows of a step, one tensor [rows, length + 1] for each pass."""
        is_cooling = self.cool_down_tokens > 0
        context = self.model.config.n_positions
        window = schedule.window_length(self.seen, context, is_cooling)
        rows = max(1, schedule.TOKENS_PER_STEP // window)
        simple = self.generator.binomial(rows, schedule.simple_share(self.cool_down))
        batch = np.concatenate(
            (
                self.streams[SIMPLE].take(simple, window),
                self.streams[STORIES].take(rows - simple, window),
            )
        )
        windows = torch.from_numpy(batch).to(self.device)
        if self.device.type == "cuda":
            return [windows]
        return list(windows.split(max(1, _CPU_TOKENS_PER_PASS // window)))

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(EMA_DECAY, (self.step + 1) / (self.step + 10))
        for name, parameter in self.model.named_parameters():
            self.average[name].lerp_(parameter, 1 - decay)

    def averaged_model(self) -> GPTJForCausalLM:
        """Return a copy of the model with the averaged weights, on the CPU in fp32."""
        model = GPTJForCausalLM(self.model.config)
        model.load_state_dict(self.average, strict=False)
        return model.eval()

    def save(self, path: Path) -> None:
        """Write a checkpoint; the file is replaced atomically."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "streams": {name: stream.state() for name, stream in self.streams.items()},
            "generator": json.dumps(self.generator.bit_generator.state),
            "counters": {name: getattr(self, name) for name in _COUNTERS},
        }
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)

    def load(self, path: Path) -> None:
        """Continue from a checkpoint, on this device; base learning rates are the code's."""
        state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average = state["average"]
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            settings = [_settings(group) for group in optimizer.param_groups]
            optimizer.load_state_dict(saved)
            for group, setting in zip(optimizer.param_groups, settings, strict=True):
                group.update(setting)
        for name, stream in self.streams.items():
            stream.load_state(state["streams"][name])
        self.generator.bit_generator.state = json.loads(state["generator"])
        for name, value in state["counters"].items():
            setattr(self, name, value)


_COUNTERS = ("step", "seen", "cool_down_from", "cool_down_tokens", "seconds")


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}


def _make_optimizers(
    model: GPTJForCausalLM, threads: ThreadPoolExecutor
) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for embedding, head, norms and biases."""
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        is_matrix = ".h." in name and parameter.ndim == 2
        if is_matrix:
            matrices.append(parameter)
        elif not name.endswith(("wte.weight", "lm_head.weight")):
            others.append(parameter)
    groups = [
        {"params": [model.transformer.wte.weight], "base_rate": EMBEDDING_RATE},
        {"params": [model.lm_head.weight], "base_rate": HEAD_RATE},
        {"params": others, "base_rate": OTHER_RATE},
    ]
    muon = Muon(matrices, lr=MUON_RATE, weight_decay=MUON_DECAY, threads=threads)
    muon.param_groups[0]["base_rate"] = MUON_RATE
    return [muon, torch.optim.AdamW(groups, lr=OTHER_RATE, betas=(0.9, 0.98), weight_decay=0.0)]


def train(
    training: Training,
    checkpoint: Path,
    should_stop: Callable[[], bool],
    *,
    on_step: Callable[[float], None],
    save_seconds: float = 180.0,
) -> None:
    """Run steps until the cool-down is done or `should_stop`, and save regularly."""
    last_saved = time.monotonic()
    while not should_stop() and training.cool_down < 1.0:
        on_step(training.run_step())
        if time.monotonic() - last_saved > save_seconds:
            training.save(checkpoint)
            last_saved = time.monotonic()
    training.save(checkpoint)
