"""How many pairs does each memory hold? Associative recall with attention, SSMs of several sizes, and a convolution.

All models are two Gated CNN blocks and differ in one thing, what stands behind the convolution: causal attention
(``attention``), an SSM with N numbers of state per channel (``mamba_n4`` to ``mamba_n32``), or nothing (``gated_cnn``).
A sequence is an image of one row, so the 7 x 7 convolution reaches three tokens to either side. It looks ahead, which
gives nothing away: an answer never stands in the sequence after its query.

Every model sees the same training sequences: lists of 2 and 4 pairs at first, then also of 8 and, from half-time on,
of 16. (Lists of all lengths from the start teach the same, more slowly.) Rows: ``accuracy_P`` with P pairs, on 512 new
sequences each; ``loss``, the mean of the last 50 steps; ``params``.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from mambaout.datasets.recall import VOCABULARY, recall
from mambaout.layers import GatedCNNBlock, MambaBlock
from mambaout.layers.attention_block import AttentionBlock
from mambaout.layers.downsample import NORM_EPS
from mambaout.studies.runner import Study
from mambaout.training import loop, optim

PAIRS = (2, 4, 8, 16)
TEST_SEED = 1_000_000  # far from the training seeds: the same test sequences for every run


@dataclass(frozen=True)
class RecallConfig:
    """One run of the study.

    Attributes:
        mixer: "attention", "mamba" or "gated_cnn".
        d_state: numbers of state per channel of the SSM.
        dim, depth: width and number of blocks.
        steps, batch_size, lr, weight_decay: AdamW with warm-up over the first tenth, then cosine.
        tests: sequences for each number of pairs.
    """

    mixer: str
    d_state: int = 16
    dim: int = 32
    depth: int = 2
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
        self.embed = nn.Embedding(VOCABULARY, config.dim)
        self.blocks = nn.Sequential(*(_block(config) for _ in range(config.depth)))
        self.norm = nn.LayerNorm(config.dim, eps=NORM_EPS)
        self.head = nn.Linear(config.dim, VOCABULARY)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, L) int64 -> logits (B, L, VOCABULARY)."""
        x = self.blocks(self.embed(tokens)[:, None])  # (B, 1, L, dim)
        return self.head(self.norm(x[:, 0]))


def _block(config: RecallConfig) -> GatedCNNBlock:
    if config.mixer == "attention":
        return AttentionBlock(config.dim, causal=True)
    if config.mixer == "mamba":
        return MambaBlock(config.dim, d_state=config.d_state)
    return GatedCNNBlock(config.dim)


def loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Cross entropy of the answers, at the queries."""
    tokens, labels = batch
    return F.cross_entropy(model(tokens).flatten(0, 1), labels.flatten())


@torch.no_grad()
def accuracy(model: nn.Module, pairs: int, tests: int, device: torch.device) -> float:
    """Share of right answers on sequences that no training run has seen."""
    model.eval()
    tokens, labels = recall(tests, pairs, torch.Generator().manual_seed(TEST_SEED + pairs))
    parts = zip(tokens.to(device).split(128), labels.to(device).split(128), strict=True)
    right = sum((model(t)[:, 2 * pairs :].argmax(-1) == y[:, 2 * pairs :]).sum().item() for t, y in parts)
    return right / (tests * pairs)


def run(config: RecallConfig, seed: int, device: torch.device) -> dict[str, float]:
    """Train one model and test it with every number of pairs."""
    torch.manual_seed(seed)
    model = RecallModel(config).to(device)
    draw = torch.Generator().manual_seed(seed)

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for step in range(config.steps):
            longest = min(len(PAIRS), 2 + 4 * step // config.steps)
            pairs = PAIRS[int(torch.randint(longest, (), generator=draw))]
            tokens, labels = recall(config.batch_size, pairs, draw)
            yield tokens.to(device), labels.to(device)

    optimizer = optim.adamw(model, config.lr, config.weight_decay)
    schedule = optim.warmup_cosine(optimizer, config.steps, config.steps // 10)
    losses = loop.fit(model, batches(), loss, optimizer, schedule, clip_norm=1.0)
    last = losses[-50:]
    values = {f"accuracy_{pairs}": accuracy(model, pairs, config.tests, device) for pairs in PAIRS}
    return values | {"loss": sum(last) / len(last), "params": float(sum(p.numel() for p in model.parameters()))}


def _variants(suffix: str, **size: int) -> dict[str, RecallConfig]:
    mixers = {"attention": RecallConfig("attention", **size)}
    mixers |= {f"mamba_n{n}": RecallConfig("mamba", d_state=n, **size) for n in (4, 8, 16, 32)}
    mixers |= {"gated_cnn": RecallConfig("gated_cnn", **size)}
    return {name + suffix: config for name, config in mixers.items()}


STUDY = Study("recall", _variants(""), run, large=_variants("_d64", dim=64, batch_size=256, steps=8000))
