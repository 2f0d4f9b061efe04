"""When is a sequence long? Tokens, thresholds and r_L of the paper's inputs (Section 3.2), and Eq. 6 as counted.

Run ``python -m mambaout.studies.lengths`` to write ``data/results/lengths.csv``.
"""

import torch

from mambaout.analysis import complexity
from mambaout.analysis.cost import count_flops
from mambaout.layers import TransformerBlock
from mambaout.studies.record import Result, config_hash, write_results


def counted_coefficients(dim: int = 64, lengths: tuple[int, int] = (64, 192)) -> tuple[float, float]:
    """The two numbers of Eq. 6, c D^2 L + q D L^2, from PyTorch's FLOP counter on a real block at two lengths."""
    block = TransformerBlock(dim, num_heads=4)
    counts = []
    for length in lengths:
        counts.append(count_flops(block, torch.zeros(1, length, dim)) / (dim * length))  # c D + q L
    quadratic = (counts[1] - counts[0]) / (lengths[1] - lengths[0])
    return (counts[0] - quadratic * lengths[0]) / dim, quadratic


def run() -> list[Result]:
    """For each input "tokens" and "ratio_dD"; for each width "threshold"; and Eq. 6's two coefficients."""
    values: list[tuple[str, str, float]] = []
    for place in complexity.INPUTS:
        length = complexity.input_tokens(place)
        values.append((str(place["label"]), "tokens", length))
        values += [
            (str(place["label"]), f"ratio_d{width['dim']}", complexity.ratio(length, int(width["dim"])))
            for width in complexity.WIDTHS
        ]
    for width in complexity.WIDTHS:
        values.append((str(width["label"]), "threshold", complexity.threshold(int(width["dim"]))))
    linear, quadratic = counted_coefficients()
    values += [("transformer_block", "linear", linear), ("transformer_block", "quadratic", quadratic)]
    config = config_hash({"inputs": complexity.INPUTS, "widths": complexity.WIDTHS})
    return [Result("lengths", variant, 0, metric, value, config, "any", 0.0) for variant, metric, value in values]


if __name__ == "__main__":
    print(write_results("lengths", run()))
