"""Trained weights that have a name: where they are, and how images are to be prepared for them, in timm's keys."""

import difflib
from typing import Any

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

HUB = "https://huggingface.co/{}/resolve/main/model.safetensors"

_CROP = {"crop_pct": 0.95, "test_crop_pct": 1.0}
_R384 = {"input_size": (3, 384, 384), "test_input_size": (3, 384, 384), "crop_mode": "squash"}

# "architecture.tag", and what sets it apart. The first tag of an architecture is what its name alone stands for.
TAGS: dict[str, dict[str, Any]] = {
    # The authors' checkpoints, in timm's copies.
    "mambaout_femto.in1k": {},
    "mambaout_kobe.in1k": {},
    "mambaout_tiny.in1k": {},
    "mambaout_small.in1k": {},
    "mambaout_base.in1k": {},
    # timm's own variants, some trained on ImageNet-12k first.
    "mambaout_small_rw.sw_e450_in1k": {},
    "mambaout_base_short_rw.sw_e500_in1k": _CROP,
    "mambaout_base_tall_rw.sw_e500_in1k": _CROP,
    "mambaout_base_wide_rw.sw_e500_in1k": _CROP,
    "mambaout_base_plus_rw.sw_e150_in12k_ft_in1k": {},
    "mambaout_base_plus_rw.sw_e150_r384_in12k_ft_in1k": _R384,
    "mambaout_base_plus_rw.sw_e150_in12k": {"num_classes": 11821},
    # Trained for this book on Fashion-MNIST: files below data/, each with its card in data/weights/README.md.
    "mambaout_fashion.fashion_mnist": {"file": "weights/mambaout_fashion.safetensors"},
    "visual_mamba_fashion.fashion_mnist": {"file": "weights/visual_mamba_fashion.safetensors"},
}


def split_name(name: str) -> tuple[str, str]:
    """Architecture and tag ("" where there is none) of "mambaout_tiny.in1k", or "hf-hub:timm/mambaout_tiny.in1k"."""
    architecture, _, tag = name.removeprefix("hf-hub:").removeprefix("timm/").partition(".")
    return architecture, tag


def tags(architecture: str) -> list[str]:
    """The tags of an architecture's trained weights, the default first."""
    return [tag for name, tag in map(split_name, TAGS) if name == architecture]


def released_cfg(architecture: str, tag: str, default: dict[str, Any]) -> dict[str, Any]:
    """How to prepare images, and ``url`` or ``file`` (below data/) where there are trained weights.

    Args:
        architecture: a model's name.
        tag: which of its trained weights; "" for the default, or for none where there are none.
        default: what the architecture itself says: "num_classes", "input_size" and so on.

    Raises:
        ValueError: there are no weights with this tag (the known ones are listed).
    """
    known = tags(architecture)
    if tag and tag not in known:
        near = difflib.get_close_matches(tag, known, n=1, cutoff=0.0)
        hint = f"did you mean {architecture}.{near[0]}?" if near else "it has none"
        raise ValueError(f"{architecture} has no trained weights {tag!r}: {hint} ({', '.join(known) or 'no tags'})")
    tag = tag or next(iter(known), "")
    own = TAGS.get(f"{architecture}.{tag}", {})
    cfg = {"architecture": architecture, "tag": tag or None, **default}
    if tag and "file" not in own:
        name = f"{architecture}.{tag}"
        cfg |= {"url": URLS[name], "hf_hub_id": f"timm/{name}", "test_input_size": (3, 288, 288)}
        cfg |= {"license": "apache-2.0"}
    return cfg | own


URLS: dict[str, str] = {}  # by architecture.tag, and by architecture for its default tag
for _name, _own in TAGS.items():
    if "file" not in _own:
        URLS[_name] = HUB.format(f"timm/{_name}")
        URLS.setdefault(split_name(_name)[0], URLS[_name])

RELEASED = {split_name(name)[0]: URLS[name] for name in TAGS if name.endswith(".in1k")}  # the paper's five
OWN = {split_name(name)[0]: own["file"] for name, own in TAGS.items() if "file" in own}  # the book's
