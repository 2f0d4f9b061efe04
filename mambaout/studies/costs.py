"""Parameters and multiply-adds of the five released variants, counted on the code (Table 4).

Run ``python -m mambaout.studies.costs`` to write ``data/results/costs.csv``.
"""

import time

from mambaout.analysis.cost import count_macs, count_parameters
from mambaout.models import create_model
from mambaout.models.registry import MODELS
from mambaout.models.weights import RELEASED
from mambaout.studies.record import Result, config_hash, write_results

IMAGE = (3, 224, 224)


def run() -> list[Result]:
    """Two rows a variant: "params" and "macs" for one image of 224 x 224 pixels."""
    rows = []
    for name in RELEASED:
        start = time.perf_counter()
        model = create_model(name)
        counts = {"params": count_parameters(model), "macs": count_macs(model, *IMAGE)}
        seconds = round(time.perf_counter() - start, 2)
        for metric, value in counts.items():
            rows.append(Result("costs", name, 0, metric, value, config_hash(MODELS[name]), "any", seconds))
    return rows


if __name__ == "__main__":
    print(write_results("costs", run()))
