"""The Triton kernels without a GPU: their numbers through Triton's interpreter, their code through its compiler."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="Triton is published for Linux only, where it comes with torch",
)


def test_numbers_on_the_interpreter():
    cases = Path(__file__).with_name("scan_triton_interpreted.py")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(cases)],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout and "skipped" not in result.stdout


def test_is_the_form_for_cuda_and_is_imported_for_it_only():
    code = (
        "import sys, mambaout.kernels.scan as scan; assert 'triton' not in sys.modules;"
        "assert scan._cuda_scan().__module__ == 'mambaout.kernels.scan_triton'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("dtype", "dim", "state", "length"),
    [("fp32", 384, 16, 3136), ("bf16", 100, 12, 50), ("fp64", 1, 1, 1)],
)
@pytest.mark.parametrize("name", ["_forward_kernel", "_backward_kernel"])
def test_compiles_to_machine_code(name: str, dtype: str, dim: int, state: int, length: int):
    """For compute capability 8.0 (A100), to the end: the assembler is part of Triton's package."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from mambaout.kernels import scan_triton

    kernel = getattr(scan_triton, name)
    options = scan_triton._launch_options(torch.float64 if dtype == "fp64" else torch.float32, dim, state)
    compiler_options = {option: options.pop(option) for option in ("num_warps", "enable_fp_fusion")}
    constants = options | dict.fromkeys(("HAS_D", "HAS_H0", "HAS_DLAST", "KEEP"), True)
    if length == 1:  # Triton turns integer arguments that are 1 into constants
        constants |= dict.fromkeys(("length", "dim", "d_state", "n_blocks", "n_chunks", "n_tokens"), 1)
    constants = {argument: value for argument, value in constants.items() if argument in kernel.arg_names}
    signature = {
        argument: "constexpr" if argument in constants else "*" + dtype if argument.endswith("_ptr") else "i32"
        for argument in kernel.arg_names
    }
    source = ASTSource(kernel, signature, constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", 80, 32), options=compiler_options)
    assert compiled.asm["cubin"]
