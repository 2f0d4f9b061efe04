"""Multi-query associative recall (Arora et al., 2023, "Zoology"): a task that is memory and nothing else.

A sequence lists key-value pairs, then asks for the value of each key:

    k3 v9  k7 v2  k1 v4 | k1? k3? k7?      answers: v4 v9 v2

Keys are drawn without repetition and every pair is new in every sequence, so the weights cannot hold the answers:
the mixer must carry them from the pairs to the queries.
"""

import torch

KEYS = VALUES = 16  # by default: tokens 0..15 are keys, 16..31 are values
IGNORE = -100  # the label of a position that asks nothing, as PyTorch's cross_entropy has it


def recall(
    sequences: int, pairs: int, generator: torch.Generator, *, keys: int = KEYS
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random sequences and their answers.

    Args:
        sequences: how many.
        pairs: key-value pairs in each, at most as many as there are keys.
        generator: draws them.
        keys: how many keys there are, and as many values: tokens 0 to keys - 1, and keys to 2 keys - 1.

    Returns:
        tokens (sequences, 3 pairs) int64: the pairs, then all keys in another order;
        labels of the same shape: the value's token at the queries, ``IGNORE`` before them.

    Raises:
        ValueError: there are not that many keys.
    """
    if not 1 <= pairs <= keys:
        raise ValueError(f"pairs must lie between 1 and the number of keys, {keys}; got {pairs}")
    drawn = torch.rand(sequences, keys, generator=generator).argsort(dim=1)[:, :pairs]
    values = torch.randint(keys, 2 * keys, (sequences, pairs), generator=generator)
    asked = torch.rand(sequences, pairs, generator=generator).argsort(dim=1)
    listed = torch.stack((drawn, values), dim=2).flatten(1)  # k1 v1 k2 v2 ...
    tokens = torch.cat((listed, drawn.gather(1, asked)), dim=1)
    labels = torch.full_like(tokens, IGNORE)
    labels[:, 2 * pairs :] = values.gather(1, asked)
    return tokens, labels
