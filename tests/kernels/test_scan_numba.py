"""What the fused form promises beyond its numbers: when it runs, on which threads, and where its code is kept."""

import importlib
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from scan_cases import make_inputs, run

from mambaout.kernels.scan import fused_cpu_scan, selective_scan
from mambaout.layers import SelectiveSSM

numba = pytest.importorskip("numba", reason="the suite also runs without numba")

from mambaout.kernels import compiled, threads  # noqa: E402
from mambaout.kernels.compiled import compiled as compile_for  # noqa: E402
from mambaout.kernels.vectors import LANES, exp2, load, store, total  # noqa: E402


@pytest.fixture
def inputs() -> list[torch.Tensor]:
    return make_inputs(3, 50, 40, 4, dtype=torch.float32)


# ---- when it runs ---------------------------------------------------------------------------------------------


def test_it_is_the_form_for_the_cpu_up_to_float32(inputs: list[torch.Tensor]):
    assert fused_cpu_scan(*inputs) is not None
    assert fused_cpu_scan(*(t.bfloat16() for t in inputs)) is not None
    assert fused_cpu_scan(*(t.double() for t in inputs)) is None
    assert fused_cpu_scan(inputs[0], inputs[1].double()) is None
    assert fused_cpu_scan(*(t.to("meta") for t in inputs)) is None


def test_without_numba_the_library_works_as_before():
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "import torch, mambaout\n"
        "from mambaout.kernels import scan\n"
        "model = mambaout.create_model('mambaout_zepto', token_mixer='mamba', scan='cross')\n"
        "model(torch.randn(2, 1, 28, 28)).sum().backward()\n"
        "assert scan.fused_cpu_scan(torch.ones(1)) is None and 'llvmlite' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_parameter_is_left_behind_in_double_precision():
    ssm, x = SelectiveSSM(8, d_state=3).double(), torch.randn(2, 6, 8, dtype=torch.float64)
    assert ssm.select(x)[1].dtype == torch.float64
    y = ssm(x)
    stepped, state = [], None
    for token in x.unbind(1):
        y_t, state = ssm.step(token, state)
        stepped.append(y_t)
    assert state.dtype == torch.float64
    torch.testing.assert_close(y, torch.stack(stepped, 1), rtol=1e-12, atol=1e-12)


# ---- threads and processes ------------------------------------------------------------------------------------


def results(inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    outputs, gradients = run(selective_scan, inputs)
    return [t.detach() for t in outputs + gradients]


@pytest.fixture(params=["PyTorch's threads", "Python's threads"])
def pool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the shares run; every share counts as worth a thread."""
    monkeypatch.setattr("mambaout.kernels.scan_numba.LEAST", 1)
    if request.param == "Python's threads":
        monkeypatch.setattr(threads, "_openmp", lambda: None)
    elif threads._openmp() is None:
        pytest.skip("this PyTorch has another OpenMP library than GNU's; the other case runs")
    return request.param


def test_every_number_of_threads_gives_the_same_bits(
    pool: str, inputs: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
):
    before, used = torch.get_num_threads(), []
    name = "_on_python_threads" if pool == "Python's threads" else "_on_openmp_threads"
    run_shares = getattr(threads, name)
    monkeypatch.setattr(threads, name, lambda work, shares: used.append(len(shares)) or run_shares(work, shares))
    try:
        found = []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            used.clear()
            found.append(results(inputs))
            assert used == ([] if count == 1 else [count, count])  # forward and backward
    finally:
        torch.set_num_threads(before)
    for others in found[1:]:
        assert all(map(torch.equal, found[0], others))


def test_an_error_in_a_share_reaches_the_caller(pool: str):
    def work(thread: int, first: int, stop: int) -> None:
        if thread:
            raise ZeroDivisionError

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ZeroDivisionError):
            threads.share(work, 8)
    finally:
        torch.set_num_threads(before)


def test_two_threads_may_call_it_while_a_third_runs_torch(pool: str, inputs: list[torch.Tensor]):
    expected, wrong, stop = results(inputs), [], threading.Event()

    def scan_often() -> None:
        for _ in range(30):
            mine = [t.detach().clone().requires_grad_() for t in inputs]
            if not all(map(torch.equal, results(mine), expected)):
                wrong.append(1)

    def multiply() -> None:
        while not stop.is_set():
            torch.randn(200, 200) @ torch.randn(200, 200)

    workers = [threading.Thread(target=scan_often) for _ in range(2)]
    beside = threading.Thread(target=multiply)
    for thread in (beside, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    stop.set()
    beside.join()
    assert not wrong


def _scan_elsewhere(queue: "multiprocessing.Queue[list[list[float]]]") -> None:
    torch.set_num_threads(2)
    queue.put([t.flatten().tolist() for t in results(make_inputs(3, 50, 40, 4, dtype=torch.float32))])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_it_works_in_another_process(method: str, pool: str, inputs: list[torch.Tensor]):
    expected = [t.flatten().tolist() for t in results(inputs)]  # the pool of this process has threads now
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=_scan_elsewhere, args=(queue,))
    process.start()
    found = queue.get(timeout=120)
    process.join()
    assert process.exitcode == 0
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == theirs


class _Scanned(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        return selective_scan(*(t.detach() for t in make_inputs(1, 20, 16, 2, dtype=torch.float32, seed=index)[:6]))


def test_it_works_in_the_workers_of_a_data_loader():
    data = _Scanned()
    loaded = torch.cat(list(torch.utils.data.DataLoader(data, batch_size=2, num_workers=2)))
    assert torch.equal(loaded, torch.stack([data[i] for i in range(4)]))


# ---- where the compiled code is kept --------------------------------------------------------------------------


SMALL = numba.void(numba.float32[::1])


def double(x):
    for i in range(x.size):
        x[i] *= 2


def check(function) -> None:
    x = torch.ones(3).numpy()
    function(x)
    assert x.tolist() == [2, 2, 2]


def test_where_no_folder_can_be_written_it_is_compiled_in_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])
    monkeypatch.setattr(numba.core.caching.CompileResultCacheImpl, "_locator_classes", [], raising=False)
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(SMALL, cache=True)(double)
    check(compile_for(SMALL)(double))


def test_a_damaged_cache_is_no_obstacle(tmp_path: Path):
    source = tmp_path / "doubling.py"
    source.write_text("def double(x):\n    for i in range(x.size):\n        x[i] *= 2\n")
    sys.path.insert(0, str(tmp_path))
    try:
        function = importlib.import_module("doubling").double
        check(compile_for(SMALL)(function))
        kept = list((tmp_path / "__pycache__").glob("*.nb[ic]"))
        assert {path.suffix for path in kept} == {".nbi", ".nbc"}
        for path in kept:
            path.write_bytes(b"\x80" + os.urandom(50))
        check(compile_for(SMALL)(function))
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("doubling", None)


@pytest.mark.parametrize("terminal", [True, False])
def test_compiling_is_announced_on_a_terminal_only(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(compiled, "PATIENCE", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with compiled._announced():
        threading.Event().wait(0.3)
    assert ("compiling" in capsys.readouterr().err) == terminal


def test_a_later_process_takes_it_from_the_disk_and_torchrun_starts_it():
    """The functions are compiled above; two processes at once read them."""
    code = (
        "import torch, mambaout.kernels.scan_numba as s;"
        "assert all(k.stats.cache_hits for k in (s._forward_kernel, s._backward_kernel)), 'compiled again';"
        "import os; print('rank', os.environ['RANK'])"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--no-python", sys.executable, "-c"]
    done = subprocess.run([*command, code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == ["0", "1", "rank", "rank"]


# ---- its arithmetic -------------------------------------------------------------------------------------------


def test_vectors_calculate_as_numbers_do():
    def apply(x, y, sums):
        for i in range(0, x.size, LANES):
            v = load(x, (i,))
            store(y, (i,), 2.0 * exp2(v) - v / 3.0 + v)
            sums[i // LANES] = total(v)

    array = numba.float32[::1]
    apply = numba.njit(numba.void(array, array, array))(apply)
    x = torch.linspace(-126, 125, 64 * LANES)
    y, sums = torch.empty_like(x), torch.empty(64)
    apply(x.numpy(), y.numpy(), sums.numpy())
    exact = 2 * torch.exp2(x.double()) - x.double() / 3 + x.double()
    assert ((y - exact).abs() / exact.abs().clamp_min(1)).max() < 3e-7
    torch.testing.assert_close(sums, x.view(64, LANES).sum(1))


def test_powers_at_the_edges():
    array = numba.float32[::1]

    def power(x):
        store(x, (0,), exp2(load(x, (0,))))

    inf = torch.inf
    edges = [-inf, -1e30, -128.0, -127.0, 0.0, 1.0, -1.0, 127.0, 128.0, 1e30, inf, torch.nan, 0.5, -0.5, 10.0, -10.0]
    x = torch.tensor(edges)
    numba.njit(numba.void(array))(power)(x.numpy())
    exact = torch.exp2(torch.tensor(edges))
    exact[2:4] = 0  # below the smallest normal number
    torch.testing.assert_close(x, exact, rtol=2e-7, atol=0, equal_nan=True)
