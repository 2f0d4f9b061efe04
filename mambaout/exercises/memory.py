"""Checks of the exercises of the chapter on memory."""

from typing import Any

import torch

from mambaout.analysis.memory import attention_step, retention, ssm_step
from mambaout.exercises import NotYet, exercise, number


@exercise("memory.kv_bytes")
def _kv_bytes(answer: Any) -> None:
    """keys and values of every token, in every layer; the heads only divide the width."""
    for tokens, dim, heads, layers, itemsize in ((1, 8, 1, 1, 4), (7, 64, 8, 3, 4), (4096, 384, 6, 12, 2)):
        case = f"{tokens} tokens, width {dim}, {heads} heads, {layers} layers, {itemsize} bytes a number"
        right = layers * attention_step(tokens, dim).nbytes(itemsize)
        found = number(answer(tokens, dim, heads, layers, itemsize), case)
        if found == right:
            continue
        hints = {
            right / 2: "Half of it is missing: attention keeps a key and a value of each token.",
            right * heads: "You counted each head as wide as the layer; the heads share its width.",
            right / heads: "You counted one head's part of the width; a layer has several heads.",
            right / layers: "You counted one layer; each layer has keys and values of its own.",
            right / itemsize: "That is how many numbers there are; how many bytes is that?",
        }
        raise NotYet(hints.get(found, f"For {case} expected {right:,}, got {found:,.10g}."))


@exercise("memory.outgrown")
def _outgrown(answer: Any) -> None:
    """from then on attention holds more than the SSM, whatever the width: it cancels."""
    for dim, d_state in ((64, 16), (768, 16), (64, 4), (10, 7), (384, 1)):
        state, right = ssm_step(dim, d_state).numbers, 1
        while attention_step(right, dim).numbers <= state:
            right += 1
        found = answer(dim, d_state)
        if found == right:
            continue
        case = f"For width {dim} and {d_state} numbers of state per channel"
        if found == right - 1:
            raise NotYet(f"{case} attention holds just as much after token {found}; more from which token on?")
        if found in (d_state, d_state + 1):
            raise NotYet(f"{case} came {found}: a token adds a key and a value, so two rows of numbers.")
        if found > 1 and found in (state // 2, state // 2 + 1):
            raise NotYet(f"{case} came {found}: a token adds 2 x {dim} numbers to attention, not 2.")
        raise NotYet(f"{case} expected token {right}, got {found}.")


@exercise("memory.retention")
def _retention(answer: Any) -> None:
    """the product of the decays after each token, one matrix for all pairs."""
    draw = torch.Generator().manual_seed(0)
    delta, A = torch.rand(6, 3, generator=draw), -torch.arange(1.0, 5).expand(3, 4)
    right = retention(delta, A)
    found = answer(delta, A)
    if not isinstance(found, torch.Tensor):
        raise NotYet(f"Return a tensor of shape (6, 6) for 6 tokens, got {type(found).__name__}.")
    if found.shape != right.shape:
        raise NotYet(f"For 6 tokens the matrix has the shape (6, 6), got {tuple(found.shape)}.")
    found = found.double()
    if torch.allclose(found, right, atol=1e-5):
        return
    if found.triu(1).abs().max() > 1e-5:
        raise NotYet("Above the diagonal all must be 0: token t cannot hold anything of a later token s.")
    if torch.allclose(found, right.T, atol=1e-5):
        raise NotYet("The matrix is transposed: rows are the reading time t, columns the token s.")
    including = torch.exp(delta.double()[..., None] * A.double())  # the token's own decay too
    own = torch.stack([torch.stack([including[s : t + 1].prod(0).mean() for s in range(6)]) for t in range(6)]).tril()
    if torch.allclose(found, own, atol=1e-5):
        raise NotYet("You let token s decay by its own step: it is written after that decay. Begin at s + 1.")
    if not torch.allclose(found.diagonal(), right.diagonal(), atol=1e-5):
        raise NotYet("On the diagonal all must be 1: what has just been written is all there.")
    averaged = torch.exp((delta.double()[..., None] * A.double()).mean((1, 2)))
    mean_first = torch.stack([torch.stack([averaged[s + 1 : t + 1].prod() for s in range(6)]) for t in range(6)]).tril()
    if torch.allclose(found, mean_first, atol=1e-5):
        raise NotYet("Take the mean over channels and states last, of the products; you took it of Delta A.")
    row, column = divmod(int((found - right).abs().argmax()), 6)
    raise NotYet(f"Entry [{row}, {column}] should be {right[row, column]:.4f}, but is {found[row, column]:.4f}.")
