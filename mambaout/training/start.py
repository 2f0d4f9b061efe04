"""The model that a training begins with: fresh, with released weights, or with those of a checkpoint."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from mambaout.models import create_model
from mambaout.models.checkpoints import WeightsError, read_checkpoint
from mambaout.models.weights import load_checkpoint
from mambaout.training.recipe import Model


def first_model(chosen: Model, classes: Sequence[str], in_chans: int | None = None) -> nn.Module:
    """The model that a recipe names, for these classes.

    Args:
        chosen: see :class:`Model`; its ``checkpoint`` is taken rather than released weights.
        classes: of the data.
        in_chans: channels of the images; the model's own by default.

    Raises:
        ValueError: there is no such model, or its weights cannot be had or do not fit.
    """
    options = {"num_classes": len(classes)} | ({} if in_chans is None else {"in_chans": in_chans}) | chosen.options()
    if chosen.checkpoint is not None:
        return _from_checkpoint(chosen, chosen.checkpoint, classes, options)
    try:
        return create_model(chosen.name, chosen.pretrained, **options)
    except TypeError as error:
        raise ValueError(f"{', '.join(chosen.settings)} makes no {chosen.name}: {error}") from error
    except WeightsError as error:
        if not chosen.pretrained:
            raise
        raise ValueError(
            f"the released weights of {chosen.name} cannot be had ({str(error).partition('. ')[0].rstrip('.')}): name "
            "weights that you have with --model.checkpoint FILE, or train from scratch with --model.no-pretrained"
        ) from error


def _from_checkpoint(chosen: Model, path: Path, classes: Sequence[str], options: dict[str, Any]) -> nn.Module:
    if not path.exists():
        raise ValueError(f"there are no weights at {path}: model.checkpoint is a file, or the folder of a training")
    kept = read_checkpoint(path)
    model: Any = create_model(chosen.name, **options)
    fresh = {name: value.clone() for name, value in model.get_classifier().state_dict().items()}
    load_checkpoint(model, kept, adapt=True)
    if kept.class_names is not None and kept.class_names != tuple(classes):
        model.get_classifier().load_state_dict(fresh)  # as many classes, but others
    return model
