"""The kernels that numba compiles for the CPU: where it is installed, and when they may run."""

import importlib
from functools import cache
from types import ModuleType

from torch import Tensor

from .plain import is_watched


def fused(name: str, *tensors: Tensor | None) -> ModuleType | None:
    """The module ``mambaout.kernels.<name>`` if it may run on these tensors, else None.

    They must lie on the CPU, and nobody may see the difference. Which dtypes it takes, its callers know.
    """
    given = [t for t in tensors if t is not None]
    if not all(t.device.type == "cpu" for t in given) or is_watched(*given):
        return None
    return _module(name)


@cache
def _module(name: str) -> ModuleType | None:
    """Imported, and so compiled, on first use only."""
    try:
        return importlib.import_module(f"mambaout.kernels.{name}")
    except ImportError:  # numba is not installed, or not made for this NumPy
        return None
