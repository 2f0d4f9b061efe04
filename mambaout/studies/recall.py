"""How many pairs does each memory hold? Associative recall with attention, SSMs of several sizes, and a convolution.

All models are two Gated CNN blocks and differ in one thing, what stands behind the convolution: causal attention
(``attention``), an SSM with N numbers of state per channel (``mamba_n1`` to ``mamba_n32``), or nothing (``gated_cnn``).
What a mixer brings in parameters the others get in width, so that all have as many within two per cent.
A sequence is an image of one row, so the 7 x 7 convolution reaches three tokens to either side. It looks ahead, which
gives nothing away: an answer never stands in the sequence after its query.

Every model sees the same training sequences: lists of 2 and 4 pairs at first, then of more and more, and from half-time
on of up to 64. (Lists of all lengths from the start teach the same, more slowly.) Each model's learning rate is tuned
first, on sequences that are neither trained on nor tested. Rows: ``accuracy_P`` with P pairs, on 512 new sequences
each; ``accuracy``, their mean; ``loss``, the mean of the last 50 steps; ``params``.

``data/results/recall_untuned.csv`` has the rows of an earlier study: up to 16 pairs of 16 keys, all models at a rate of
1e-2, from 22,196 parameters (the convolution) to 30,644 (attention). The defaults of :class:`RecallConfig` are its
settings.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from mambaout.analysis.cost import count_parameters
from mambaout.datasets.recall import recall
from mambaout.layers import GatedCNNBlock, MambaBlock
from mambaout.layers.attention_block import AttentionBlock
from mambaout.layers.downsample import NORM_EPS
from mambaout.studies.runner import Study
from mambaout.studies.tuning import Tuning
from mambaout.training import loop, optim

PAIRS = (2, 4, 8, 16)
TEST_SEED = 1_000_000  # far from the training seeds: the same test sequences for every run
VALIDATION_SEED = 2_000_000


@dataclass(frozen=True)
class RecallConfig:
    """One run of the study.

    Attributes:
        mixer: "attention", "mamba" or "gated_cnn".
        d_state: numbers of state per channel of the SSM.
        pairs: lengths of the lists, ascending.
        keys: how many keys there are, and as many values.
        dim, depth: width and number of blocks.
        expansion_ratio: of the blocks; the study sets it so that all models have as many parameters.
        steps, batch_size, lr, weight_decay: AdamW with warm-up over the first tenth, then cosine.
        tests: sequences for each number of pairs.
    """

    mixer: str
    d_state: int = 16
    pairs: tuple[int, ...] = PAIRS
    keys: int = 16
    dim: int = 32
    depth: int = 2
    expansion_ratio: float = 8 / 3
    steps: int = 4000
    batch_size: int = 64
    lr: float = 1e-2
    weight_decay: float = 0.01
    tests: int = 512


class RecallModel(nn.Module):
    """Embedding, blocks on a one-row image, norm, and a linear layer to the vocabulary.

    PyTorch's own initialisation: from the authors' small weights (standard deviation 0.02) so narrow a model hardly
    starts to learn.
    """

    def __init__(self, config: RecallConfig) -> None:
        super().__init__()
        self.embed = nn.Embedding(2 * config.keys, config.dim)
        self.blocks = nn.Sequential(*(_block(config) for _ in range(config.depth)))
        self.norm = nn.LayerNorm(config.dim, eps=NORM_EPS)
        self.head = nn.Linear(config.dim, 2 * config.keys)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, L) int64 -> logits (B, L, 2 keys)."""
        x = self.blocks(self.embed(tokens)[:, None])  # (B, 1, L, dim)
        return self.head(self.norm(x[:, 0]))


def _block(config: RecallConfig) -> GatedCNNBlock:
    ratio = config.expansion_ratio
    if config.mixer == "attention":
        return AttentionBlock(config.dim, causal=True, expansion_ratio=ratio)
    if config.mixer == "mamba":
        return MambaBlock(config.dim, d_state=config.d_state, expansion_ratio=ratio)
    return GatedCNNBlock(config.dim, expansion_ratio=ratio)


def count(config: RecallConfig) -> int:
    """Parameters of the model."""
    with torch.device("meta"):  # shapes are enough
        return count_parameters(RecallModel(config))


def as_large(config: RecallConfig, parameters: int) -> RecallConfig:
    """The configuration with the hidden width whose model comes nearest to so many parameters."""
    each = config.depth * (3 * config.dim + 2)  # of a hidden channel: two rows and biases of fc1, a column of fc2
    hidden = int(config.expansion_ratio * config.dim) + round((parameters - count(config)) / each)
    return dataclasses.replace(config, expansion_ratio=(hidden + 0.5) / config.dim)  # the block rounds down


def loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Cross entropy of the answers, at the queries."""
    tokens, labels = batch
    return F.cross_entropy(model(tokens).flatten(0, 1), labels.flatten())


@torch.no_grad()
def accuracy(
    model: nn.Module, pairs: int, tests: int, device: torch.device, *, keys: int = 16, seed: int = TEST_SEED
) -> float:
    """Share of right answers on sequences that no training run has seen."""
    model.eval()
    tokens, labels = recall(tests, pairs, torch.Generator().manual_seed(seed + pairs), keys=keys)
    parts = zip(tokens.to(device).split(128), labels.to(device).split(128), strict=True)
    right = sum((model(t)[:, 2 * pairs :].argmax(-1) == y[:, 2 * pairs :]).sum().item() for t, y in parts)
    return right / (tests * pairs)


def run(config: RecallConfig, seed: int, device: torch.device) -> dict[str, float]:
    """Train one model and test it with every number of pairs."""
    return _train(config, seed, device, TEST_SEED)


def validate(config: RecallConfig, seed: int, device: torch.device) -> dict[str, float]:
    """Train one model and score it on sequences of its own."""
    return {"validation_accuracy": _train(config, seed, device, VALIDATION_SEED)["accuracy"]}


def _train(config: RecallConfig, seed: int, device: torch.device, score_seed: int) -> dict[str, float]:
    torch.manual_seed(seed)
    model = RecallModel(config).to(device)
    draw = torch.Generator().manual_seed(seed)
    lengths = len(config.pairs)

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for step in range(config.steps):
            longest = min(lengths, 2 + 2 * (lengths - 2) * step // config.steps)  # all from half-time on
            pairs = config.pairs[int(torch.randint(longest, (), generator=draw))]
            tokens, labels = recall(config.batch_size, pairs, draw, keys=config.keys)
            yield tokens.to(device), labels.to(device)

    optimizer = optim.adamw(model, config.lr, config.weight_decay)
    schedule = optim.warmup_cosine(optimizer, config.steps, config.steps // 10)
    losses = loop.fit(model, batches(), loss, optimizer, schedule, clip_norm=1.0)
    last = losses[-50:]
    values = {
        f"accuracy_{pairs}": accuracy(model, pairs, config.tests, device, keys=config.keys, seed=score_seed)
        for pairs in config.pairs
    }
    mean = sum(values.values()) / len(values)
    return values | {"accuracy": mean, "loss": sum(last) / len(last), "params": float(count_parameters(model))}


def _variants(suffix: str = "", **size: int) -> dict[str, RecallConfig]:
    common: dict[str, Any] = {"pairs": (2, 4, 8, 16, 32, 64), "keys": 64, **size}
    mixers = {"attention": RecallConfig("attention", **common)}
    mixers |= {f"mamba_n{n}": RecallConfig("mamba", d_state=n, **common) for n in (1, 4, 8, 16, 32)}
    mixers |= {"gated_cnn": RecallConfig("gated_cnn", **common)}
    largest = max(map(count, mixers.values()))  # the others become wider: no model is cut for a mixer's sake
    return {name + suffix: as_large(config, largest) for name, config in mixers.items()}


STUDY = Study(
    "recall",
    _variants(),
    run,
    large=_variants("_d64", dim=64, batch_size=256, steps=8000),
    tuning=Tuning(validate, grid=(2.5e-3, 5e-3, 1e-2, 2e-2)),
)
