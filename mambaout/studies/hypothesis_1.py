"""Does the SSM help image classification? MambaOut, and the same network with another token mixer in each block.

The paper's Hypothesis 1. All variants share the macro-architecture (stem, two stages, downsampling, head), the block
around the mixer, the recipe and, with the same seed, the images and their order. Where the Gated CNN block has
``Conv(Z)``, the variants have

- ``gated_cnn``: just that (MambaOut);
- ``conv_gelu``: GELU(Conv(Z)), a Mamba block without its SSM: Eq. 11 brings this activation along with the SSM, and
  this variant tells the effects of the two apart;
- ``ssm_raster``, ``ssm_bidirectional``, ``ssm_cross``, ``ssm_local``: SSM(GELU(Conv(Z))), the SSM along the routes of
  that scan (:mod:`mambaout.layers.scans`);
- ``attention``, ``causal_attention``: attention in the SSM's place;
- ``identity``: Z itself. Only the stem's and the downsampling's convolutions then mix tokens: the floor.

What a mixer adds in parameters, narrower linear layers take away (``match_parameters``). A variant's name is the data,
a slash, and the mixer. ``fashion_mnist`` has 49 tokens in the first stage and 16 in the second, ``stamps``
256 and 64; each seed of ``stamps`` also holds other cut-outs back for the test.

Rows: ``accuracy`` (a fraction of all test images), ``accuracy_1`` and so on (after each epoch, of the first 2,000 test
images), ``train_loss`` (mean of the last 50 steps), ``params``, ``macs`` (of one image), and ``step_ms``, the median
time of a step's forward and backward pass: on a CPU the processor's time, all threads added up, which other programs
hardly change; on a GPU the time that passed. The weights of ``stamps`` at seed 0 are kept in
``data/weights/hypothesis_1/``.
"""

import dataclasses
import statistics
import time
from dataclasses import dataclass
from functools import cache, lru_cache

import torch
from safetensors.torch import load_file
from torch import nn

from mambaout.analysis.cost import count_macs, count_parameters
from mambaout.datasets import fashion_mnist
from mambaout.datasets.stamps import CLASSES, stamps
from mambaout.files.data import data_dir, find
from mambaout.layers import MambaBlock
from mambaout.models import MambaOut, MambaOutConfig
from mambaout.models.matching import count, match_parameters
from mambaout.studies.images import (
    Batch,
    ShortTraining,
    accuracy,
    initialise,
    normalise,
    shuffled_batches,
    train_classifier,
)
from mambaout.studies.runner import Study
from mambaout.training import checkpoint, loop
from mambaout.training.devices import keep_freed_memory

Images = tuple[torch.Tensor, torch.Tensor]  # (N, 1 or 3, H, W) uint8 or (N, H, W) uint8, and labels (N,)

WEIGHTS = "weights/hypothesis_1"
QUICK = 2_000  # test images that the curve is drawn with


@dataclass(frozen=True, kw_only=True)
class Hypothesis1Config(ShortTraining):
    """One run of the study. Of Fashion-MNIST it takes a random part, half of it mirrored; stamps are composed anew for
    every epoch.

    Attributes:
        data: "fashion_mnist" (28 x 28, grey) or "stamps" (64 x 64, RGB).
        token_mixer: see :class:`~mambaout.models.MambaOutConfig`; or "conv_gelu".
        scan, depths, dims, stem_stride, d_state, head_dim: see :class:`~mambaout.models.MambaOutConfig`.
    """

    data: str = "fashion_mnist"
    token_mixer: str = "gated_cnn"
    scan: str = "raster"
    depths: tuple[int, ...] = (1, 2)
    dims: tuple[int, ...] = (32, 64)
    stem_stride: int = 4
    d_state: int = 2
    head_dim: int = 32
    images: int = 10_000
    epochs: int = 6
    batch_size: int = 64
    lr: float = 3e-3


@cache
def model_config(config: Hypothesis1Config) -> MambaOutConfig:
    """The model, with as nearly as possible the parameters of MambaOut at the paper's expansion ratio of 8/3."""
    shared = ("depths", "dims", "stem_stride", "d_state", "head_dim")
    plain = MambaOutConfig(
        **{name: getattr(config, name) for name in shared},
        num_classes=len(CLASSES),  # ten in both sets
        in_chans=3 if config.data == "stamps" else 1,
    )
    if config.token_mixer == "gated_cnn":
        return plain
    if config.token_mixer == "conv_gelu":  # as many as in the Gated CNN: `fresh` takes the SSM out
        return dataclasses.replace(plain, token_mixer="mamba")
    mixed = dataclasses.replace(plain, token_mixer=config.token_mixer, scan=config.scan)
    return match_parameters(mixed, count(plain))


def fresh(config: Hypothesis1Config, seed: int = 0) -> MambaOut:
    """The model before training."""
    torch.manual_seed(seed)
    model = MambaOut(model_config(config))
    if config.token_mixer == "conv_gelu":
        for block in model.modules():
            if isinstance(block, MambaBlock):
                block.ssm = nn.Identity()  # type: ignore[assignment]
    initialise(model)
    return model


def trained(mixer: str) -> MambaOut:
    """The model that the study trained on the stamps with seed 0, in evaluation mode.

    Takes images (B, 3, 64, 64) as :func:`mambaout.studies.images.normalise` makes them.

    Args:
        mixer: one of :data:`MIXERS`.

    Raises:
        ValueError: an unknown mixer (the known ones are listed).
    """
    if mixer not in MIXERS:
        raise ValueError(f"unknown mixer {mixer!r}; the study has {', '.join(MIXERS)}")
    model = fresh(STUDY.variants[f"stamps/{mixer}"])
    model.load_state_dict(load_file(find(f"{WEIGHTS}/{mixer}.safetensors")))
    return model.eval()


@lru_cache(maxsize=1)
def load_data(data: str, images: int, epochs: int, seed: int) -> tuple[list[Images], Images]:
    """The training images of each epoch, and the test images. One seed is kept for the variants that follow."""
    if data == "stamps":
        train = [stamps("train", images, division=seed, seed=1 + epoch) for epoch in range(epochs)]
        held_out = stamps("test", QUICK, division=seed)
        return [(part.images, part.labels) for part in train], (held_out.images, held_out.labels)
    everything, test = fashion_mnist("train"), fashion_mnist("test")
    chosen = torch.randperm(len(everything.images), generator=torch.Generator().manual_seed(seed))[:images]
    return [(everything.images[chosen], everything.labels[chosen])] * epochs, (test.images, test.labels)


def run(config: Hypothesis1Config, seed: int, device: torch.device) -> dict[str, float]:
    """Train one model and test it."""
    if device.type == "cpu":
        keep_freed_memory()
    train, test = load_data(config.data, config.images, config.epochs, seed)
    test_images, test_labels = normalise(test[0]).to(device), test[1].to(device)
    model = fresh(config, seed).to(device)
    draw = torch.Generator().manual_seed(seed)  # on the CPU: the same on every device and for every variant

    batches = shuffled_batches(train, config, draw, device, mirror=config.data != "stamps")
    curve: dict[str, float] = {}

    def on_step(step: int, _: float) -> None:
        epoch, rest = divmod(step, config.steps_per_epoch)
        if not rest:
            curve[f"accuracy_{epoch}"] = accuracy(model, test_images[:QUICK], test_labels[:QUICK])

    timed = Timed(loop.Local(model, config.loss), device)
    train_loss = train_classifier(model, batches, config, on_step=on_step, backend=timed)
    if config in KEPT and seed == 0:
        keep(config, model)
    return {
        "accuracy": accuracy(model, test_images, test_labels),
        **curve,
        "train_loss": train_loss,
        "params": float(count_parameters(model)),
        "macs": float(count_macs(model, *test_images.shape[1:])),
        "step_ms": 1e3 * statistics.median(timed.seconds),
    }


class Timed:
    """A backend of the training loop that notes how long each forward and backward pass takes."""

    def __init__(self, backend: loop.Local[Batch], device: torch.device) -> None:
        self.backend, self.device = backend, device
        self.seconds: list[float] = []

    def _clock(self) -> float:
        if self.device.type != "cuda":
            return time.process_time()
        torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def gradients(self, batch: Batch) -> float:
        """See :class:`mambaout.training.loop.Backend`."""
        start = self._clock()
        value = self.backend.gradients(batch)
        self.seconds.append(self._clock() - start)
        return value

    def clip(self, norm: float) -> None:
        """See :class:`mambaout.training.loop.Backend`."""
        self.backend.clip(norm)


def keep(config: Hypothesis1Config, model: MambaOut) -> None:
    """Write the weights to the repository's data, whole or not at all."""
    path = data_dir() / WEIGHTS / f"{KEPT[config]}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.export(path, model.state_dict(), {})


MIXERS: dict[str, dict[str, str]] = {
    "gated_cnn": {},
    "conv_gelu": {"token_mixer": "conv_gelu"},
    "ssm_raster": {"token_mixer": "mamba"},
    "ssm_bidirectional": {"token_mixer": "mamba", "scan": "bidirectional"},
    "ssm_cross": {"token_mixer": "mamba", "scan": "cross"},
    "ssm_local": {"token_mixer": "mamba", "scan": "local"},
    "attention": {"token_mixer": "attention"},
    "causal_attention": {"token_mixer": "causal_attention"},
    "identity": {"token_mixer": "identity"},
}


def _variants(**data: Hypothesis1Config) -> dict[str, Hypothesis1Config]:
    return {
        f"{name}/{mixer}": dataclasses.replace(config, data=name, **settings)  # type: ignore[arg-type]
        for name, config in data.items()
        for mixer, settings in MIXERS.items()
    }


_LARGE = Hypothesis1Config(
    depths=(2, 4), dims=(64, 128), stem_stride=2, d_state=16, images=60_000, epochs=30, batch_size=256
)
_LARGE_STAMPS = dataclasses.replace(_LARGE, images=20_000, stem_stride=4)

STUDY = Study(
    "hypothesis_1",
    _variants(fashion_mnist=Hypothesis1Config(), stamps=Hypothesis1Config(images=8_000, epochs=8, batch_size=32)),
    run,
    large={
        name.replace("/", "_large/"): config
        for name, config in _variants(fashion_mnist=_LARGE, stamps=_LARGE_STAMPS).items()
    },
)

KEPT = {STUDY.variants[f"stamps/{mixer}"]: mixer for mixer in MIXERS}  # whose weights of seed 0 are kept
