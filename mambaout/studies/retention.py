"""What a selective SSM keeps of each token, before and after training: the numbers behind the chapter on memory.

A reader is a single Mamba block between an embedding and a linear layer; it predicts the next token. Its convolution
is 1 x 1, so that whatever it knows of earlier tokens has come through the SSM's state. It reads a photo's patches in
raster order (``photo``), or the characters of a book (``sentence``).

Run ``mambaout study retention --seeds 1``: it writes ``data/results/retention.csv``, and the trained weights of seed 0
to ``data/weights/retention.safetensors``. Rows: ``loss_fresh`` and ``loss_trained`` on a photo and chapters that were
not trained on (mean squared error of pixels between -1 and 1; nats a character), and ``kept_10_fresh`` and
``kept_10_trained``, the share of a token that is left in the state ten tokens later, on the sequence that the book
shows. Each reader's learning rate is tuned first, on another photo and other chapters that were not trained on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, cast

import torch
from torch import nn
from torch.nn import functional as F

from mambaout.analysis import memory
from mambaout.datasets import list_photos, moby_dick, photo
from mambaout.layers import MambaBlock, SelectiveSSM
from mambaout.layers.downsample import NORM_EPS
from mambaout.studies.kept import keep, restore, variant_of
from mambaout.studies.runner import Study
from mambaout.studies.tuning import Tuning
from mambaout.training import loop, optim

PATCH, CHANNELS = 8, 3
Part = Literal["train", "validation", "test"]
SHOWN_PHOTO = "chelsea"  # not trained on
SHOWN_SENTENCE = "Future things swim before me, "  # likewise; a hundred characters from here end with a full stop
VALIDATION_PHOTO = "coffee"  # likewise
HELD_OUT = 0.95  # the book is tested on from here
VALIDATION = 0.90  # and tuned on from here; it is trained on up to here
WEIGHTS = "weights/retention.safetensors"


@dataclass(frozen=True)
class RetentionConfig:
    """One reader and its training.

    Attributes:
        source: "photo" or "sentence".
        d_state: numbers of state per channel of the SSM.
        dim: width.
        side: the photo is side x side patches, and a text as many characters.
        steps, batch_size, lr, weight_decay: AdamW with warm-up over the first tenth, then cosine.
    """

    source: str
    d_state: int
    dim: int = 64
    side: int = 10
    steps: int = 2000
    batch_size: int = 16
    lr: float = 4e-3
    weight_decay: float = 0.01

    @property
    def name(self) -> str:
        """The variant's name, such as "photo_n16"."""
        return f"{self.source}_n{self.d_state}"


class Reader(nn.Module):
    """Predicts the next token from a state of ``dim x d_state`` numbers.

    Tokens are characters, (..., L) integers below 81, or patches, (..., L, 192) pixels between -1 and 1.
    """

    def __init__(self, config: RetentionConfig) -> None:
        super().__init__()
        sizes = {"photo": CHANNELS * PATCH * PATCH, "sentence": len(alphabet())}
        if config.source not in sizes:
            raise ValueError(f"source must be one of {', '.join(sizes)}; got {config.source!r}")
        size = sizes[config.source]
        embed = nn.Embedding if config.source == "sentence" else nn.Linear
        self.embed = embed(size, config.dim)
        self.block = MambaBlock(config.dim, d_state=config.d_state, kernel_size=1)
        self.norm = nn.LayerNorm(config.dim, eps=NORM_EPS)
        self.head = nn.Linear(config.dim, size)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens of shape (B, L) or (B, L, 192) -> predictions of the next one, (B, L, 81) or (B, L, 192)."""
        x = self.block(self.embed(tokens)[:, None])[:, 0]  # the block sees an image of one row
        return self.head(self.norm(x))

    def step(self, token: torch.Tensor, state: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """One token (B,) or (B, 192) and the state (B, dim, d_state), or None for the first -> prediction, state."""
        x = self.embed(token)
        gate, identity, u = self._parts(x)
        y, state = self._ssm.step(u, state)
        x = x + self.block.fc2(F.gelu(gate) * torch.cat((identity, y), dim=-1))
        return self.head(self.norm(x)), state

    @property
    def _ssm(self) -> SelectiveSSM:
        return cast(SelectiveSSM, self.block.ssm)  # raster order has one route, so one SSM

    def _parts(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Embedded tokens (..., dim) -> gate, identity channels, and what the SSM reads."""
        block = self.block
        gate, identity, z = block.fc1(block.norm(x)).split(block.split, dim=-1)
        return gate, identity, F.gelu(z * block.conv.weight[:, 0, 0, 0] + block.conv.bias)

    @torch.no_grad()
    def survival(self, tokens: torch.Tensor) -> torch.Tensor:
        """For every token of (L,) or (L, 192) the share of the state that reading it leaves in place: (L,)."""
        _, _, u = self._parts(self.embed(tokens))
        delta, A, _, _ = self._ssm.select(u)
        return memory.survival(delta, A)

    @torch.no_grad()
    def remembered(self, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        """What the state holds while one sequence, (L,) or (L, 192), is read.

        Returns:
            "kept" (L, L): :func:`~mambaout.analysis.memory.retention`;
            "weight" (L, L): :func:`~mambaout.analysis.memory.contributions`, each row divided by its sum;
            "state" (L, d_state): root mean square of the state over channels.
        """
        _, _, u = self._parts(self.embed(tokens))
        delta, A, B, _ = self._ssm.select(u)
        parts = memory.contributions(u, delta, A, B)
        return {
            "kept": memory.retention(delta, A),
            "weight": parts / parts.sum(1, keepdim=True),
            "state": memory.states(u, delta, A, B).square().mean(1).sqrt(),
        }


@cache
def alphabet() -> list[str]:
    """The 81 characters of the book, in the order of their code points."""
    return sorted(set(moby_dick()))


def encode(text: str) -> torch.Tensor:
    """Characters of the book -> their places in the alphabet, (L,) int64."""
    place = {character: i for i, character in enumerate(alphabet())}
    if unknown := sorted(set(text) - set(place)):
        raise ValueError(f"the book has no {' '.join(map(repr, unknown))}; use its 81 characters")
    return torch.tensor([place[character] for character in text], dtype=torch.long)


@cache
def _encoded_book() -> torch.Tensor:
    return encode(moby_dick())


@cache
def _photo(name: str) -> torch.Tensor:
    return photo(name)


def patches(image: torch.Tensor) -> torch.Tensor:
    """(3, H, W) uint8, sides multiples of 8 -> (H W / 64, 192) in raster order, between -1 and 1."""
    pixels = image / 127.5 - 1
    cut = pixels.unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH)  # (3, H / 8, W / 8, 8, 8)
    return cut.permute(1, 2, 0, 3, 4).flatten(2).flatten(0, 1)


def square(image: torch.Tensor, side: int, top: int = 0, left: int = 0, size: int | None = None) -> torch.Tensor:
    """A square of `size` pixels (as large as fits by default) scaled to side x side: (3, H, W) -> (3, side, side)."""
    size = min(image.shape[1:]) if size is None else size
    cut = image[:, top : top + size, left : left + size].float()
    scaled = F.interpolate(cut[None], (side, side), mode="bilinear", antialias=True, align_corners=False)[0]
    return scaled.round().clamp(0, 255).byte()


def shown(source: str, side: int) -> torch.Tensor:
    """The sequence that the book shows: side x side patches of the photo, or as many characters."""
    if source == "photo":
        image = photo(SHOWN_PHOTO)
        return patches(square(image, side * PATCH, left=(image.shape[2] - image.shape[1]) // 2))
    return encode(shown_text(side * side))


def shown_text(length: int) -> str:
    """The first characters of the sentence that the book shows."""
    book = moby_dick()
    start = book.index(SHOWN_SENTENCE)
    return book[start : start + length]


def held_out_text(length: int) -> str:
    """The first characters of the part of the book that was not trained on."""
    book = moby_dick()
    start = int(HELD_OUT * len(book))
    return book[start : start + length]


def sequences(config: RetentionConfig, generator: torch.Generator, part: Part) -> torch.Tensor:
    """A batch of random sequences of side^2 + 1 characters, or of side^2 patches."""

    def draw(high: int) -> int:
        return int(torch.randint(high, (), generator=generator))

    length = config.side**2
    if config.source == "sentence":
        book = _encoded_book()
        borders = {"train": (0, VALIDATION), "validation": (VALIDATION, HELD_OUT), "test": (HELD_OUT, 1.0)}
        first, end = (int(share * len(book)) for share in borders[part])
        last = end - length - 1
        starts = torch.randint(first, last, (config.batch_size,), generator=generator)
        return book[starts[:, None] + torch.arange(length + 1)]
    held = {"validation": VALIDATION_PHOTO, "test": SHOWN_PHOTO}
    names = [held[part]] if part in held else [name for name in list_photos() if name not in held.values()]
    batch = []
    for _ in range(config.batch_size):
        image = _photo(names[draw(len(names))])
        smallest, largest = config.side * PATCH, min(image.shape[1:])
        size = smallest + draw(largest - smallest + 1)
        top, left = (draw(extent - size + 1) for extent in image.shape[1:])
        batch.append(patches(square(image, config.side * PATCH, top, left, size)))
    return torch.stack(batch)


def loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """How wrong the predictions of each next token are: cross entropy of characters, squared error of patches."""
    predicted, following = model(batch[:, :-1]), batch[:, 1:]
    if batch.is_floating_point():
        return F.mse_loss(predicted, following)
    return F.cross_entropy(predicted.flatten(0, 1), following.flatten())


def fresh(config: RetentionConfig, seed: int = 0) -> Reader:
    """A reader before training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Reader(config)


def trained(config: RetentionConfig) -> Reader:
    """The same reader after training, from the weights in the repository."""
    return restore(fresh(config), WEIGHTS, config.name)


def records(sides: tuple[int, ...] = (5, 10)) -> list[dict[str, Any]]:
    """What every reader remembers of the sequences that the book shows, before and after training.

    Returns:
        For each variant, number of patches a side, and fresh or trained: "source", "length", "d_state", "trained",
        and what :meth:`Reader.remembered` gives, as arrays.
    """
    rows = []
    for config in VARIANTS.values():
        for is_trained, model in ((False, fresh(config)), (True, trained(config))):
            for side in sides:
                found = model.remembered(shown(config.source, side))
                row = {"source": config.source, "length": side**2, "d_state": config.d_state, "trained": is_trained}
                rows.append(row | {key: tensor.numpy() for key, tensor in found.items()})
    return rows


def run(config: RetentionConfig, seed: int, device: torch.device) -> dict[str, float]:
    """Train one reader, and measure it before and after."""
    model = fresh(config, seed).to(device)
    tokens = shown(config.source, config.side).to(device)

    def measure(when: str) -> dict[str, float]:
        later = model.remembered(tokens)["kept"].diagonal(-10).mean().item()
        return {f"loss_{when}": _score(model, config, device, "test"), f"kept_10_{when}": later}

    values = measure("fresh")
    _fit(model, config, seed, device)
    if seed == 0 and (name := variant_of(config, VARIANTS)):
        keep(model, WEIGHTS, name)
    return values | measure("trained")


def validate(config: RetentionConfig, seed: int, device: torch.device) -> dict[str, float]:
    """Train one reader, and measure how well it predicts what is neither trained nor tested on."""
    model = fresh(config, seed).to(device)
    _fit(model, config, seed, device)
    return {"validation_loss": _score(model, config, device, "validation")}


def _fit(model: Reader, config: RetentionConfig, seed: int, device: torch.device) -> None:
    draw = torch.Generator().manual_seed(seed)
    batches: Iterator[torch.Tensor] = (sequences(config, draw, "train").to(device) for _ in range(config.steps))
    optimizer = optim.adamw(model, config.lr, config.weight_decay)
    schedule = optim.warmup_cosine(optimizer, config.steps, config.steps // 10)
    loop.fit(model, batches, loss, optimizer, schedule, clip_norm=1.0)


@torch.no_grad()
def _score(model: Reader, config: RetentionConfig, device: torch.device, part: Part) -> float:
    """Mean loss on four batches of a part, always the same."""
    draws = (torch.Generator().manual_seed(1_000_000 + i) for i in range(4))
    return sum(loss(model, sequences(config, draw, part).to(device)).item() for draw in draws) / 4


STATES = (4, 16)
VARIANTS = {
    config.name: config for source in ("photo", "sentence") for config in (RetentionConfig(source, n) for n in STATES)
}
STUDY = Study(
    "retention",
    VARIANTS,
    run,
    tuning=Tuning(validate, grid=(1e-3, 2e-3, 4e-3, 8e-3), metric="validation_loss", maximise=False),
)
