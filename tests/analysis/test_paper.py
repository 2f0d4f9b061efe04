"""The paper's tables."""

from typing import get_args

import pandas as pd
import pytest

from mambaout.analysis import paper

ROWS = {"imagenet": 82, "coco": 36, "ade20k": 50, "models": 5, "causal_vit": 12}


@pytest.mark.parametrize("name", get_args(paper.Table))
def test_every_table_names_its_sources(name: paper.Table) -> None:
    table = paper.table(name)
    assert len(table) == ROWS.get(name, len(table)) > 0
    assert table["source"].notna().all() and table["confidence"].notna().all()


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("imagenet", "params_M"),
        ("imagenet", "macs_G"),
        ("imagenet", "top1_224"),
        ("coco", "AP_b"),
        ("ade20k", "mIoU_MS"),
        ("models", "macs_G"),
        ("timm_results", "imagenet_top1"),
        ("causal_vit", "value"),
    ],
)
def test_numbers_are_numbers(name: paper.Table, column: str) -> None:
    assert pd.api.types.is_numeric_dtype(paper.table(name)[column])


def test_an_empty_cell_is_nan() -> None:
    coco = paper.table("coco").set_index("model")
    assert pd.isna(coco.loc["SG-Former-S", "macs_G_800x1280"])


def test_unknown_table() -> None:
    with pytest.raises(ValueError, match=r"'cifar'.*imagenet, coco"):
        paper.table("cifar")  # type: ignore[arg-type]
