"""The recorded numbers are those of the code as it stands, and Eq. 6 is what PyTorch counts."""

import pytest

from mambaout.analysis import complexity
from mambaout.studies import lengths
from mambaout.studies.runner import read_results


@pytest.mark.parametrize(("dim", "sizes"), [(64, (64, 192)), (32, (49, 50)), (96, (16, 400))])
def test_eq_6_is_counted(dim, sizes):
    assert lengths.counted_coefficients(dim, sizes) == pytest.approx((24, 4))


def test_the_file_is_what_the_code_computes():
    now = {(row.variant, row.metric): row.value for row in lengths.run()}
    assert now == pytest.approx({(row.variant, row.metric): row.value for row in read_results("lengths")})


def test_every_input_and_width_has_its_rows():
    rows = {(row.variant, row.metric): row.value for row in lengths.run()}
    assert rows["ImageNet", "tokens"] == 196 and rows["ViT-S", "threshold"] == 2304
    for place in complexity.INPUTS:
        for width in complexity.WIDTHS:
            expected = rows[place["label"], "tokens"] / rows[width["label"], "threshold"]
            assert rows[place["label"], f"ratio_d{width['dim']}"] == pytest.approx(expected)
