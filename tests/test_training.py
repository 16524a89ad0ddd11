"""The trainer of the sample model: its forward pass, its schedule, and resuming."""

from __future__ import annotations

import lzma
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

import train_sample_model
from sample_model import corpus, schedule
from sample_model.evaluation import bits_per_byte
from sample_model.export import save_model
from sample_model.muon import orthogonalize
from sample_model.network import Shape, build_model, check_forward
from sample_model.training import Training

SHAPE = Shape(layers=2, width=32, heads=2)
CONTEXT = 32


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "TOKENS_PER_STEP", 128)
    monkeypatch.setattr("sample_model.training._CPU_TOKENS_PER_PASS", 64)


def make_training(dropout: float = 0.0) -> Training:
    generator = np.random.default_rng(1)
    corpora = {name: generator.integers(0, 300, 2000) for name in (corpus.SIMPLE, corpus.STORIES)}
    return Training(build_model(SHAPE, 320, 1, CONTEXT), corpora, dropout=dropout)


def weights(training: Training) -> dict[str, torch.Tensor]:
    return {**training.model.state_dict(), **training.averaged_model().state_dict()}


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_resumed_training_gives_the_same_weights(tmp_path: Path, dropout: float) -> None:
    straight, stopped, resumed = (make_training(dropout) for _ in range(3))
    expected = [straight.run_step() for _ in range(2)]
    straight.begin_cool_down(256)
    expected += [straight.run_step() for _ in range(2)]

    losses = [stopped.run_step()]
    stopped.save(tmp_path / "checkpoint.pt")
    resumed.load(tmp_path / "checkpoint.pt")
    losses.append(resumed.run_step())
    resumed.begin_cool_down(256)
    losses.append(resumed.run_step())
    resumed.save(tmp_path / "checkpoint.pt")
    again = make_training(dropout)
    again.load(tmp_path / "checkpoint.pt")
    losses.append(again.run_step())

    assert losses == expected
    assert again.cool_down == straight.cool_down == 1.0
    for name, weight in weights(straight).items():
        assert torch.equal(weight, weights(again)[name]), name


def test_training_lowers_the_loss() -> None:
    training = make_training()
    training.streams = {
        name: corpus.WindowStream(np.tile(np.arange(50), 40), 1) for name in training.streams
    }
    losses = [training.run_step() for _ in range(30)]
    assert losses[-1] < 0.8 * losses[0]


def test_check_forward_notices_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model(SHAPE, 320, 1, CONTEXT)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    windows = torch.arange(60).view(2, 30)
    check_forward(model, windows)
    tables = torch.zeros(CONTEXT, 1, 4), torch.ones(CONTEXT, 1, 4)
    monkeypatch.setattr("sample_model.network.rotary_tables", lambda config: tables)
    with pytest.raises(RuntimeError, match="transformers gives"):
        check_forward(model, windows)


def test_orthogonalize_brings_singular_values_near_one() -> None:
    matrix = torch.randn(24, 40, generator=torch.Generator().manual_seed(1))
    for update in (orthogonalize(matrix), orthogonalize(matrix.T)):
        values = torch.linalg.svdvals(update)
        assert 0.5 < values.min() < values.max() < 1.5


def test_an_epoch_covers_the_corpus_once() -> None:
    stream = corpus.WindowStream(np.arange(1001), seed=1)
    windows = stream.take(99, 10)
    assert windows.shape == (99, 11)
    starts = windows[:, 0]
    assert len(set(starts // 10)) == 99
    assert not np.array_equal(starts, np.sort(starts))
    assert np.array_equal(windows, starts[:, None] + np.arange(11))


def test_the_cool_down_has_full_windows_and_more_simple_text() -> None:
    assert schedule.window_length(0, 1024, is_cooling=False) == 256
    assert schedule.window_length(20_000_000, 1024, is_cooling=False) == 512
    assert schedule.window_length(0, 1024, is_cooling=True) == 1024
    shares = [schedule.simple_share(part / 10) for part in range(11)]
    assert shares == sorted(shares)
    assert shares[0] < shares[-1]
    factors = [schedule.learning_rate_factor(1000, part / 10) for part in range(11)]
    assert factors[0] == 1.0
    assert factors[-1] == 0.0
    assert factors == sorted(factors, reverse=True)


def test_a_saved_model_is_loaded_in_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sample_model.export.SHARD_SIZE", "30KB")
    text = "The cat sat on the mat, and the dog sat by the cat. " * 20
    path = tmp_path / "text.xz"
    path.write_bytes(lzma.compress(f"{text}\n<|endoftext|>\n{text}".encode()))
    documents = corpus.read_documents(path)
    tokenizer = corpus.train_tokenizer(documents, size=300)
    model = build_model(SHAPE, 320, 1, CONTEXT).half().float()
    folder = tmp_path / "model"
    save_model(folder, model, tokenizer)

    assert len(list(folder.glob("*.safetensors"))) > 1
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, loaded.state_dict()[name]), name
    fast = AutoTokenizer.from_pretrained(folder)
    assert fast.decode(fast(text)["input_ids"]) == text

    # the weights are nearly uniform, so a token costs about log2(320) bits
    tokens = sum(len(sequence) - 1 for sequence in corpus.tokenize(tokenizer, documents))
    expected = tokens * np.log2(320) / sum(len(document) for document in documents)
    assert bits_per_byte(loaded, tokenizer, documents) == pytest.approx(expected, rel=0.02)


def test_the_tool_trains_resumes_and_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train_sample_model, "STORYTELLER", SHAPE)
    monkeypatch.setattr("sample_model.export.SAMPLE_BEGINNINGS", ("Once",))
    text = "Once there was a cat who sat on a mat by the old red door. " * 200
    for file in (*corpus.TRAINING_FILES.values(), *corpus.VALIDATION_FILES.values()):
        (tmp_path / file).write_bytes(lzma.compress(text.encode()))
    work, out = tmp_path / "work", tmp_path / "out"

    def call(*arguments: str) -> str:
        command = ["train_sample_model.py", str(tmp_path), "--work", str(work), *arguments]
        monkeypatch.setattr(sys, "argv", command)
        train_sample_model.main()
        return capsys.readouterr().out

    assert "from step 0" in call("--minutes", "0.005")
    assert "from step 0" not in call("--minutes", "0.005")
    before = (work / "storyteller.pt").read_bytes()
    finished = call("--finish", "0.000256", "--out", str(out))
    assert "cool-down 1.00" in finished
    assert (work / "storyteller.pt").read_bytes() == before
    card = (out / "README.md").read_text("utf-8")
    assert "# The sample model" in card
    assert "**Once**" in card
    assert AutoModelForCausalLM.from_pretrained(out).config.n_embd == SHAPE.width
