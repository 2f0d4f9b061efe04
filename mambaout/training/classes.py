"""Classes by their names: where those of some data stand among those that a model knows."""

from collections.abc import Sequence

SHOWN = 5


def match(data: Sequence[str], known: Sequence[str]) -> list[int]:
    """The place of each class of the data among the model's; data with some of the classes only are fine.

    Raises:
        ValueError: the model does not know one of them.
    """
    places = {name: place for place, name in enumerate(known)}
    strange = [name for name in data if name not in places]
    if strange:
        raise ValueError(f"the model does not know the classes {some(strange)} of the data; it knows {some(known)}")
    return [places[name] for name in data]


def some(names: Sequence[str]) -> str:
    """The first few, and how many more."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
