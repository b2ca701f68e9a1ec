"""Networks for pairs of texts that others train: sentence-transformers, and a siamese biLSTM in plain PyTorch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy, mse_loss

from object2vec.schema.text import split_words

EPOCHS = 8
UNKNOWN = 1
Forward = Callable[[pd.DataFrame], Tensor]


def train(
    modules: nn.Module, forward: Forward, settings: Mapping[str, Any], parts: dict[str, pd.DataFrame], regression: bool
) -> tuple[Any, Any]:
    """Train on batches of rows with Adam; return the predictions of the best epoch by the tuning part.

    `forward` returns logits (N, 3) or predicted numbers (N,).
    """
    optimizer = torch.optim.Adam(modules.parameters(), lr=settings["learning_rate"])
    rows = parts["train"]
    best: tuple[float, tuple[Any, Any]] = (-np.inf, (None, None))
    for _ in range(EPOCHS):
        modules.train()
        for batch in torch.split(torch.randperm(len(rows)), settings["batch"]):
            chosen = rows.iloc[batch.numpy()]
            optimizer.zero_grad()
            loss(forward(chosen), chosen, regression).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        modules.eval()
        with torch.inference_mode():
            outputs = [forward(parts[name]) for name in ("validation", "test")]
        found = [(output if regression else output.argmax(dim=1)).numpy() for output in outputs]
        wanted = target(parts["validation"], regression).numpy()
        measure = float(np.corrcoef(found[0], wanted)[0, 1] if regression else (found[0] == wanted).mean())
        best = max(best, (measure, (found[0], found[1])), key=lambda one: one[0])
    return best[1]


def target(rows: pd.DataFrame, regression: bool) -> Tensor:
    """Return numbers (N,), or classes from 0."""
    numbers = torch.from_numpy(rows.number.to_numpy(np.float32))
    return numbers if regression else (2 - 2 * numbers).long()


def loss(output: Tensor, rows: pd.DataFrame, regression: bool) -> Tensor:
    """Return the mean squared error or the cross-entropy."""
    return (mse_loss if regression else cross_entropy)(output, target(rows, regression))


def vocabulary_of(rows: pd.DataFrame) -> dict[str, int]:
    """Return the ids of the words of training; 0 is padding, and 1 an unknown word."""
    counts = Counter(word for text in (*rows.s1, *rows.s2) for word in split_words(text))
    return {word: token for token, word in enumerate(counts, start=UNKNOWN + 1)}


def train_sentence_transformer(
    settings: Mapping[str, Any], parts: dict[str, pd.DataFrame], regression: bool, seed: int
) -> tuple[Any, Any]:
    """Train word embeddings with mean pooling, by the library's softmax loss or cosine loss."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import SoftmaxLoss
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    torch.manual_seed(seed)
    vocabulary = {"[PAD]": 0, "[UNK]": UNKNOWN, **vocabulary_of(parts["train"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=settings["dim"])], device="cpu")
    product = bool(settings["concatenate_product"])
    softmax = SoftmaxLoss(model, settings["dim"], num_labels=3, concatenation_sent_multiplication=product)

    def encode(rows: pd.DataFrame) -> list[Tensor]:
        return [model(model.preprocess(list(texts)))["sentence_embedding"] for texts in (rows.s1, rows.s2)]

    def forward(rows: pd.DataFrame) -> Tensor:
        u, v = encode(rows)
        if regression:  # of CosineSimilarityLoss, this is all that is before the mean squared error
            return cosine_similarity(u, v)
        terms = [u, v, (u - v).abs(), *([u * v] if product else [])]
        output: Tensor = softmax.classifier(torch.cat(terms, dim=1))
        return output

    return train(softmax, forward, settings, parts, regression)


class BiLSTM(nn.Module):
    """One biLSTM for both texts with the maximum over time, and a layer on both, their difference and product."""

    def __init__(self, words: int, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, settings["dim"])
        self.lstm = nn.LSTM(settings["dim"], settings["hidden"], bidirectional=True, batch_first=True)
        self.dropout = nn.Dropout(settings["dropout"])
        self.output = nn.Linear(8 * settings["hidden"], 3)

    def encode(self, texts: list[Tensor]) -> Tensor:
        """Return the encodings of texts, (N, 2 hidden)."""
        lengths = torch.tensor([len(text) for text in texts])
        embedded = self.dropout(self.embedding(nn.utils.rnn.pad_sequence(texts, batch_first=True)))
        packed = nn.utils.rnn.pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        hidden, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True, padding_value=-2.0)
        encoding: Tensor = self.dropout(hidden.amax(dim=1))
        return encoding


def train_bilstm(
    settings: Mapping[str, Any], parts: dict[str, pd.DataFrame], regression: bool, seed: int
) -> tuple[Any, Any]:
    """Train a siamese biLSTM: a layer on the comparison for classes, the cosine for numbers."""
    torch.manual_seed(seed)
    vocabulary = vocabulary_of(parts["train"])
    network = BiLSTM(len(vocabulary) + 2, settings)

    def encode(texts: pd.Series) -> Tensor:
        ids = [[vocabulary.get(word, UNKNOWN) for word in split_words(text)] or [UNKNOWN] for text in texts]
        return network.encode([torch.tensor(one) for one in ids])

    def forward(rows: pd.DataFrame) -> Tensor:
        u, v = encode(rows.s1), encode(rows.s2)
        if regression:
            return cosine_similarity(u, v)
        output: Tensor = network.output(torch.cat([u, v, (u - v).abs(), u * v], dim=1))
        return output

    return train(network, forward, settings, parts, regression)
