"""A classifier that is small enough for tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="package")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT whose head has been set so that the word `plugh` decides."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder = tmp_path_factory.mktemp("classifier")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "lamp", "plugh", "."]
    tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(words)})
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=2,
        id2label={0: "fine", 1: "bad"},
        label2id={"fine": 0, "bad": 1},
    )
    bert = BertForSequenceClassification(config).eval()

    def pooled(text: str) -> torch.Tensor:
        with torch.no_grad():
            return bert.bert(**tokenizer(text, return_tensors="pt")).pooler_output[0]

    good, bad = pooled("The lamp."), pooled("The plugh.")
    direction = (bad - good) / (bad - good).norm() ** 2
    with torch.no_grad():
        bert.classifier.weight.zero_()
        bert.classifier.weight[1] = 20 * direction
        bert.classifier.bias.zero_()
        bert.classifier.bias[1] = -20 * (direction @ (good + bad)) / 2
    bert.save_pretrained(folder)
    return folder
