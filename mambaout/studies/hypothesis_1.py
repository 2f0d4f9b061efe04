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

Fashion-MNIST and clutter also have controls, which say whether a gain is the SSM's, and whether a small gain would be
seen at all:

- ``ssm_bare``: SSM(Conv(Z)), the fourth of {GELU or not} x {SSM or not};
- ``conv_mean`` and ``conv_long_range``: a convolution that reaches every token without an SSM
  (:mod:`mambaout.studies.arms`);
- ``conv_wide``: ``gated_cnn`` with a quarter more channels, and so more parameters: a gain that is there;
- ``ssm_uncut``: ``ssm_raster`` at the Gated CNN's width, with the SSM's parameters on top;
- ``conv_longer``: ``gated_cnn`` trained for 10 epochs where the others have 6 (of clutter 6 and 4): the SSM's
  time on Fashion-MNIST before its scan was fused, and about its time on clutter since.

What a mixer adds in parameters, narrower linear layers take away (``match_parameters``). A variant's name is the data,
a slash, and the mixer. ``fashion_mnist`` has 49 tokens in the first stage and 16 in the second, ``clutter`` and
``stamps`` 256 and 64; each seed of ``stamps`` also holds other cut-outs back for the test. Attention knows no order by
itself, so its variants also get sines and cosines of each token's place.

Each variant's learning rate is tuned first, on images that neither train nor test any (:mod:`mambaout.studies.sets`).
:data:`UNTUNED` are the variants of an earlier study, all at one rate and with a smaller state, whose rows stand in
``data/results/hypothesis_1_untuned.csv``. They were measured before the scan was fused. Repeated with the fused
kernels, seeds 0 and 1 of ``gated_cnn`` and ``ssm_raster`` on Fashion-MNIST gave the same accuracies, but for one test
image of ten thousand in one of the four runs: the noise of float32, far below that of a seed.

Rows: ``accuracy`` (a fraction of all test images), ``accuracy_1`` and so on (after each epoch, of the first 2,000 test
images), ``train_loss`` (mean of the last 50 steps), ``params``, ``macs`` (of one image), and ``step_ms``, the median
time of a step's forward and backward pass: on a CPU the processor's time, all threads added up, which other programs
hardly change; on a GPU the time that passed. The weights of ``stamps`` at seed 0 are kept in
``data/weights/hypothesis_1/``, each file with its configuration.
"""

import dataclasses
import json
import statistics
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from safetensors import safe_open

from mambaout.analysis.cost import count_macs, count_parameters
from mambaout.files.data import data_dir, find
from mambaout.models import MambaOut, MambaOutConfig
from mambaout.models.matching import count, match_parameters
from mambaout.models.weights import read_state_dict
from mambaout.studies.arms import BLOCKS, extra_parameters, replace_blocks
from mambaout.studies.images import (
    Batch,
    ShortTraining,
    accuracy,
    initialise,
    normalise,
    shuffled_batches,
    train_classifier,
)
from mambaout.studies.kept import variant_of
from mambaout.studies.runner import Study
from mambaout.studies.sequential import Pair
from mambaout.studies.sets import SETS, Part, load
from mambaout.studies.tuning import Tuning
from mambaout.training import checkpoint, loop
from mambaout.training.devices import keep_freed_memory

WEIGHTS = "weights/hypothesis_1"
QUICK = 2_000  # test images that the curve is drawn with


@dataclass(frozen=True, kw_only=True)
class Hypothesis1Config(ShortTraining):
    """One run of the study.

    Attributes:
        data: one of :data:`mambaout.studies.sets.SETS`.
        token_mixer: see :class:`~mambaout.models.MambaOutConfig`; or one of :data:`mambaout.studies.arms.BLOCKS`.
        scan, depths, dims, stem_stride, d_state, head_dim, positions: see :class:`~mambaout.models.MambaOutConfig`.
        cut: whether the linear layers are narrowed by the parameters that the mixer adds.
    """

    data: str = "fashion_mnist"
    token_mixer: str = "gated_cnn"
    scan: str = "raster"
    depths: tuple[int, ...] = (1, 2)
    dims: tuple[int, ...] = (32, 64)
    stem_stride: int = 4
    d_state: int = 16
    head_dim: int = 32
    positions: bool = False
    cut: bool = True
    images: int = 10_000
    epochs: int = 6
    batch_size: int = 64
    lr: float = 2e-3


@cache
def model_config(config: Hypothesis1Config) -> MambaOutConfig:
    """The model, if cut with as nearly as possible the parameters of MambaOut at the paper's expansion ratio of 8/3."""
    shared = ("depths", "dims", "stem_stride", "d_state", "head_dim")
    plain = MambaOutConfig(
        **{name: getattr(config, name) for name in shared},
        num_classes=SETS[config.data].classes,
        in_chans=SETS[config.data].channels,
    )
    if config.token_mixer == "gated_cnn":
        return plain
    if config.token_mixer in BLOCKS:  # which `fresh` puts in
        return match_parameters(plain, count(plain) - extra_parameters(config.token_mixer, plain))
    mixed = dataclasses.replace(
        plain, token_mixer=config.token_mixer, scan=config.scan, positions=config.positions
    )
    return match_parameters(mixed, count(plain)) if config.cut else mixed


def fresh(config: Hypothesis1Config, seed: int = 0) -> MambaOut:
    """The model before training."""
    torch.manual_seed(seed)
    model = MambaOut(model_config(config))
    if config.token_mixer in BLOCKS:
        replace_blocks(model, config.token_mixer)
    initialise(model)
    return model


def trained_config(mixer: str) -> Hypothesis1Config:
    """The configuration of the model that :func:`trained` gives.

    Raises:
        ValueError: an unknown mixer (the known ones are listed).
    """
    if mixer not in MIXERS:
        raise ValueError(f"unknown mixer {mixer!r}; the study has {', '.join(MIXERS)}")
    with safe_open(find(f"{WEIGHTS}/{mixer}.safetensors"), "pt") as file:
        written = json.loads(file.metadata()["config"])
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in written.items()}
    return Hypothesis1Config(**fields)


def trained(mixer: str) -> MambaOut:
    """The model that the study trained on the stamps with seed 0, in evaluation mode.

    Takes images (B, 3, 64, 64) as :func:`mambaout.studies.images.normalise` makes them.

    Args:
        mixer: one of :data:`MIXERS`.

    Raises:
        ValueError: an unknown mixer (the known ones are listed).
    """
    model = fresh(trained_config(mixer))
    model.load_state_dict(read_state_dict(find(f"{WEIGHTS}/{mixer}.safetensors")))
    return model.eval()


def run(config: Hypothesis1Config, seed: int, device: torch.device) -> dict[str, float]:
    """Train one model and test it."""
    model, values = _train(config, seed, device, "test")
    name = variant_of(config, STUDY.variants)
    if name is not None and name.startswith("stamps/") and seed == 0:
        keep(config, model, name.removeprefix("stamps/"))
    return values


def validate(config: Hypothesis1Config, seed: int, device: torch.device) -> dict[str, float]:
    """Train one model and score it on the validation part."""
    _, values = _train(config, seed, device, "validation")
    return {"validation_accuracy": values["accuracy"]}


def _train(
    config: Hypothesis1Config, seed: int, device: torch.device, part: Part
) -> tuple[MambaOut, dict[str, float]]:
    """One model, and what its training and a part of the images say of it."""
    if device.type == "cpu":
        keep_freed_memory()
    train, scored = load(config.data, config.images, config.epochs, seed, part)
    images, labels = normalise(scored[0]).to(device), scored[1].to(device)
    model = fresh(config, seed).to(device)
    draw = torch.Generator().manual_seed(seed)  # on the CPU: the same on every device and for every variant

    batches = shuffled_batches(train, config, draw, device, mirror=SETS[config.data].mirrored)
    curve: dict[str, float] = {}

    def on_step(step: int, _: float) -> None:
        epoch, rest = divmod(step, config.steps_per_epoch)
        if not rest:
            curve[f"accuracy_{epoch}"] = accuracy(model, images[:QUICK], labels[:QUICK])

    timed = Timed(loop.Local(model, config.loss), device)
    train_loss = train_classifier(model, batches, config, on_step=on_step, backend=timed)
    return model, {
        "accuracy": accuracy(model, images, labels),
        **curve,
        "train_loss": train_loss,
        "params": float(count_parameters(model)),
        "macs": float(count_macs(model, *images.shape[1:])),
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


def keep(config: Hypothesis1Config, model: MambaOut, mixer: str) -> None:
    """Write the weights and their configuration to the repository's data, whole or not at all."""
    path = data_dir() / WEIGHTS / f"{mixer}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.export(path, model.state_dict(), {"config": json.dumps(dataclasses.asdict(config))})


MIXERS: dict[str, dict[str, Any]] = {
    "gated_cnn": {},
    "conv_gelu": {"token_mixer": "conv_gelu"},
    "ssm_raster": {"token_mixer": "mamba"},
    "ssm_bidirectional": {"token_mixer": "mamba", "scan": "bidirectional"},
    "ssm_cross": {"token_mixer": "mamba", "scan": "cross"},
    "ssm_local": {"token_mixer": "mamba", "scan": "local"},
    "attention": {"token_mixer": "attention", "positions": True},
    "causal_attention": {"token_mixer": "causal_attention", "positions": True},
    "identity": {"token_mixer": "identity"},
}
CONTROLS: dict[str, dict[str, Any]] = {
    "ssm_bare": {"token_mixer": "ssm_bare"},
    "conv_mean": {"token_mixer": "conv_mean"},
    "conv_long_range": {"token_mixer": "conv_long_range"},
    "conv_wide": {"dims": (40, 80)},
    "ssm_uncut": {"token_mixer": "mamba", "cut": False},
    "conv_longer": {"epochs": 10},  # a step with the SSM took 1.6 times as long, see hypothesis_1_untuned.csv
}


def _variants(
    arms: dict[str, dict[str, Any]] = MIXERS, **data: Hypothesis1Config
) -> dict[str, Hypothesis1Config]:
    return {
        f"{name}/{arm}": dataclasses.replace(config, data=name, **settings)
        for name, config in data.items()
        for arm, settings in arms.items()
    }


_FASHION = Hypothesis1Config()
_CLUTTER = Hypothesis1Config(images=50_000, epochs=4)  # every item four times, never the same image
_STAMPS = Hypothesis1Config(images=8_000, epochs=8, batch_size=32)
_LARGE = Hypothesis1Config(depths=(2, 4), dims=(64, 128), stem_stride=2, images=50_000, epochs=30, batch_size=256)
_LARGE_STAMPS = dataclasses.replace(_LARGE, images=20_000, stem_stride=4)

STUDY = Study(
    "hypothesis_1",
    _variants(MIXERS | CONTROLS, fashion_mnist=_FASHION)
    | _variants(MIXERS | CONTROLS | {"conv_longer": {"epochs": 6}}, clutter=_CLUTTER)
    | _variants(stamps=_STAMPS),
    run,
    large={
        name.replace("/", "_large/"): config
        for name, config in _variants(fashion_mnist=_LARGE, stamps=_LARGE_STAMPS).items()
    },
    tuning=Tuning(validate),
    pairs=(
        Pair("fashion_mnist/ssm_raster", "fashion_mnist/gated_cnn"),
        Pair("clutter/ssm_raster", "clutter/gated_cnn", half_width=0.005),
    ),
)

UNTUNED = {
    name: dataclasses.replace(config, d_state=2, lr=3e-3, positions=False)
    for name, config in _variants(fashion_mnist=_FASHION, stamps=_STAMPS).items()
}  # what the rows in data/results/hypothesis_1_untuned.csv are of
