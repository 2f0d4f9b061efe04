from collections.abc import Iterator

import pytest

from mambaout.kernels import fused


@pytest.fixture(params=["fused", "without numba"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The forms that `selective_scan` takes on the CPU in float32, with numba and on a machine without it."""
    if request.param == "fused":
        pytest.importorskip("numba", reason="the suite also runs without numba")
    else:
        monkeypatch.setattr(fused, "_module", lambda name: None)
    return request.param
