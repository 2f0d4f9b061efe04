"""Interactive figures (anywidget). Their JavaScript does all the work: they need no kernel.

The classes are imported on first use: `import mambaout` must not need anywidget.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .architecture_explorer import ArchitectureExplorer
    from .block_diagram import BlockDiagram
    from .length_explorer import LengthExplorer
    from .live_explorer import LiveExplorer
    from .memory_stepper import MemoryStepper
    from .mixing_explorer import MixingExplorer
    from .receptive_explorer import ReceptiveExplorer
    from .recipe_explorer import RecipeExplorer
    from .results_explorer import ResultsExplorer

__all__ = [
    "ArchitectureExplorer",
    "BlockDiagram",
    "LengthExplorer",
    "LiveExplorer",
    "MemoryStepper",
    "MixingExplorer",
    "ReceptiveExplorer",
    "RecipeExplorer",
    "ResultsExplorer",
]

_MODULES = {
    "ArchitectureExplorer": "architecture_explorer",
    "BlockDiagram": "block_diagram",
    "LengthExplorer": "length_explorer",
    "LiveExplorer": "live_explorer",
    "MemoryStepper": "memory_stepper",
    "MixingExplorer": "mixing_explorer",
    "ReceptiveExplorer": "receptive_explorer",
    "RecipeExplorer": "recipe_explorer",
    "ResultsExplorer": "results_explorer",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}.")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
