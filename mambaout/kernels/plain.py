"""When may a layer be replaced by a faster equal computation? When nobody can see the difference.

Three things must hold, and this module is the one place that asks:

- the operations run now, for their numbers alone: nobody records them (a tracer, a compiler, an exporter) or
  transforms them (`torch.func`, forward-mode derivatives): :func:`is_recorded`;
- nobody watches them: no mode that counts or replaces operations, and no tensor of a class of its own
  (quantised or distributed weights): :func:`is_watched`;
- the modules whose work is taken over are what they seem: of exactly that class, with its own ``forward``, without
  hooks, wrappers or parametrisations: :func:`is_plain`.
"""

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.modules.module import _has_any_global_hook
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

_PLAIN_TENSORS = (torch.Tensor, nn.Parameter)
_RECORDING_MODES = (
    torch._C._TorchDispatchModeKey.FAKE,
    torch._C._TorchDispatchModeKey.PROXY,
    torch._C._TorchDispatchModeKey.FUNCTIONAL,
)


def is_recorded(*tensors: torch.Tensor | None) -> bool:
    """Whether operations are written down or transformed, so that only PyTorch's own may be used.

    Not under `torch.compile`, which runs what it cannot record. The tensors are asked whether they are batches of
    gradients (`torch.autograd.grad(..., is_grads_batched=True)`).
    """
    return (
        torch.jit.is_tracing()
        or torch.compiler.is_exporting()
        or torch._C._functorch.maybe_current_level() is not None
        or forward_ad._current_level >= 0
        or any(torch._C._get_dispatch_mode(mode) is not None for mode in _RECORDING_MODES)
        or any(t is not None and torch._C._functorch.is_legacy_batchedtensor(t) for t in tensors)
    )


def is_watched(*tensors: torch.Tensor | None) -> bool:
    """Whether somebody could tell operations on these tensors from others with the same result."""
    return (
        any(t is not None and type(t) not in _PLAIN_TENSORS for t in tensors)
        or torch.compiler.is_compiling()
        or is_recorded(*tensors)
        or is_in_torch_dispatch_mode()
        or any(not isinstance(mode, DeviceContext) for mode in _get_current_function_mode_stack())
    )


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether the module computes what its class says and nobody notices when it is not called."""
    return (
        type(module) is kind
        and not any(hasattr(kind, name) for name in module.__dict__)  # a method replaced, or `module.compile()`
        and kind.__call__ is nn.Module._wrapped_call_impl
        and _code_name(kind.forward) == f"{kind.__qualname__}.forward"
        and not (
            module._forward_hooks
            or module._forward_pre_hooks
            or module._backward_hooks
            or module._backward_pre_hooks
            or _has_any_global_hook()
        )
        and all(parameter is None or type(parameter) in _PLAIN_TENSORS for parameter in module._parameters.values())
    )


def _code_name(function: object) -> str | None:
    """The name a function was written under, which it keeps when it is put in another's place, even by a decorator."""
    return getattr(getattr(function, "__code__", None), "co_qualname", None)
