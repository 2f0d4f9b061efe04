"""When may a layer be replaced by a faster equal computation? When nobody can see the difference."""

from torch import nn


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """True when the module is exactly ``kind``, not a wrapper or a parametrised one, and carries no hook."""
    return type(module) is kind and not (
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )
