"""The tables of the paper, and of the work around it, as data frames (`data/paper/`)."""

from typing import TYPE_CHECKING, Literal, get_args

from mambaout.files.data import DataError, find

if TYPE_CHECKING:
    import pandas as pd

Table = Literal["imagenet", "coco", "ade20k", "causal_vit", "formulas", "models", "recipe", "timm_results", "debate"]


def table(name: Table) -> "pd.DataFrame":
    """One table, a row per model or fact; columns of numbers are numbers, and an empty cell is NaN.

    | name | holds |
    | --- | --- |
    | imagenet, coco, ade20k | Tables 1, 2 and 3, every row |
    | causal_vit | Figure 3(b), and Vim's own ablation of the scan direction |
    | models, recipe | the five configurations; the training settings |
    | formulas | equations, thresholds and claims, with checks |
    | timm_results | timm's measurements of the released weights |
    | debate | later work for and against the two hypotheses |

    Raises:
        ValueError: unknown name.
        DataError: the file is missing, truncated or altered.
    """
    if name not in get_args(Table):
        raise ValueError(f"There is no table {name!r} of the paper; known: {', '.join(get_args(Table))}.")
    import pandas as pd

    path = find(f"paper/{name}.csv")
    try:
        return pd.read_csv(path)
    except ValueError as error:  # pandas' errors of parsing, which name the line, and of decoding
        raise DataError(f"{path} is no table: {' '.join(str(error).split())}.") from error
