"""Sixteen float32 numbers as one value in numba's compiled functions.

A compiler finds vector instructions in simple loops only, and the scan's are not simple: with arrays that might
overlap it gives up, and with many constants it loads them again in each round. Here the loops are written in vectors
from the start: `load` sixteen neighbours, calculate, `store`. LLVM makes one AVX-512 instruction of each step, two of
AVX, or four of SSE and NEON. A number beside a vector stands for sixteen equal ones.

The scan's loops are three to four times faster so than as loops that numba vectorises by itself.
"""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

LANES = 16
# Products and sums may be fused, zero's sign may be lost; the order of sums is kept, and so are NaN and infinity.
FAST_MATH = ("contract", "nsz", "arcp")

_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_FLOATS, _INTS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT, LANES)
_MASK = ir.VectorType(ir.IntType(1), LANES)


class Vector(types.Type):
    """The type of a vector, as numba sees it."""

    def __init__(self) -> None:
        super().__init__(name=f"float32 x {LANES}")


vector = Vector()


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _FLOATS)


def _constant(value: float) -> ir.Constant:
    return ir.Constant(_FLOATS, [ir.Constant(_FLOAT, float(np.float32(value)))] * LANES)


@intrinsic
def splat(context: Any, number: Any) -> Any:
    """Sixteen times the same number."""

    def build(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        one = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), arguments[0], ir.Constant(_INT, 0))
        return builder.shuffle_vector(one, ir.Constant(_FLOATS, ir.Undefined), ir.Constant(_INTS, [0] * LANES))

    return vector(types.float32), build


@intrinsic
def load(context: Any, array: Any, index: Any) -> Any:
    """The sixteen numbers of a float32 array from `index` (a tuple, one entry an axis) on, along its last axis."""

    def build(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return builder.load(_address(context, builder, signature.args, arguments), align=4)

    return vector(array, index), build


@intrinsic
def store(context: Any, array: Any, index: Any, value: Any) -> Any:
    """Put a vector where `load` would take it from."""

    def build(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        builder.store(arguments[2], _address(context, builder, signature.args, arguments), align=4)
        return context.get_dummy_value()

    return types.none(array, index, vector), build


@intrinsic
def load_first(context: Any, array: Any, index: Any, count: Any) -> Any:
    """Like `load`, but only the first `count` numbers; zeros after them, where the array may end."""

    def build(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        address = _address(context, builder, signature.args, arguments)
        masked = _function(builder, "llvm.masked.load", [address.type, _INT, _MASK, _FLOATS], _FLOATS)
        return builder.call(masked, [address, ir.Constant(_INT, 4), _mask(builder, arguments[2]), _constant(0.0)])

    return vector(array, index, types.int64), build


@intrinsic
def store_first(context: Any, array: Any, index: Any, value: Any, count: Any) -> Any:
    """Like `store`, but only the first `count` numbers."""

    def build(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        address = _address(context, builder, signature.args, arguments)
        masked = _function(builder, "llvm.masked.store", [_FLOATS, address.type, _INT, _MASK], ir.VoidType())
        builder.call(masked, [arguments[2], address, ir.Constant(_INT, 4), _mask(builder, arguments[3])])
        return context.get_dummy_value()

    return types.none(array, index, vector, types.int64), build


def _mask(builder: ir.IRBuilder, count: ir.Value) -> ir.Value:
    """True in the first `count` lanes."""
    lanes = ir.Constant(_INTS, list(range(LANES)))
    one = builder.insert_element(
        ir.Constant(_INTS, ir.Undefined), builder.trunc(count, _INT), ir.Constant(_INT, 0)
    )
    many = builder.shuffle_vector(one, ir.Constant(_INTS, ir.Undefined), ir.Constant(_INTS, [0] * LANES))
    return builder.icmp_signed("<", lanes, many)


def _address(context: Any, builder: ir.IRBuilder, kinds: Any, arguments: Any) -> ir.Value:
    """Pointer to the vector that begins at an index of an array; indices are not negative."""
    array = context.make_array(kinds[0])(context, builder, arguments[0])
    index = [
        context.cast(builder, value, kind, types.intp)
        for value, kind in zip(cgutils.unpack_tuple(builder, arguments[1]), kinds[1], strict=True)
    ]
    return builder.bitcast(
        cgutils.get_item_pointer(context, builder, kinds[0], array, index, wraparound=False), _FLOATS.as_pointer()
    )


def _function(builder: ir.IRBuilder, name: str, arguments: list[ir.Type], result: ir.Type) -> ir.Function:
    """One of LLVM's own functions, for this type of vector."""
    suffix = f".v{LANES}f32" + (".p0" if any(isinstance(t, ir.PointerType) for t in arguments) else "")
    kind = ir.FunctionType(result, arguments)
    return cgutils.get_or_insert_function(builder.module, kind, name + suffix)


@intrinsic
def total(context: Any, value: Any) -> Any:
    """The sum of the sixteen numbers, pairwise."""

    def build(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        reduce = _function(builder, "llvm.vector.reduce.fadd", [_FLOAT, _FLOATS], _FLOAT)
        return builder.call(reduce, [_constant(0.0).constant[0], arguments[0]], fastmath=("reassoc", *FAST_MATH))

    return types.float32(vector), build


# 2^r - 1 = r (c1 + r (c2 + ...)) for |r| <= 1/2, to 9e-8 of 2^r: the polynomial whose largest relative error is least.
_EXP2 = (0.6931469776, 0.2402224208, 0.05550733744, 0.009671512661, 0.00132647269)


@intrinsic
def exp2(context: Any, value: Any) -> Any:
    """2 to the power of each number, to 1e-7 of it; 0 below -127, infinity from 128 on, NaN for NaN.

    z = k + r with k the nearest integer: adding 1.5 x 2^23 leaves no bits for a fraction, and its last bits are k.
    2^r is a polynomial, and k is added to its exponent's bits.
    """
    rounder = 1.5 * 2**23

    def build(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        (z,) = arguments
        z = builder.select(builder.fcmp_ordered("<", z, _constant(-127)), _constant(-127), z)
        z = builder.select(builder.fcmp_ordered(">", z, _constant(128)), _constant(128), z)
        shifted = builder.fadd(z, _constant(rounder))  # without fast-math flags, which would undo the rounding
        r = builder.fsub(z, builder.fsub(shifted, _constant(rounder)))
        power = _constant(_EXP2[-1])
        for coefficient in (*_EXP2[-2::-1], 1.0):
            product = builder.fmul(power, r, flags=FAST_MATH)
            power = builder.fadd(product, _constant(coefficient), flags=FAST_MATH)
        exponent = builder.shl(builder.bitcast(shifted, _INTS), ir.Constant(_INTS, [23] * LANES))
        return builder.bitcast(builder.add(builder.bitcast(power, _INTS), exponent), _FLOATS)

    return vector(vector), build


def _operator(method: str) -> Callable[..., Any]:
    """An instruction on two vectors, by the name of the builder's method."""

    @intrinsic
    def apply(context: Any, left: Any, right: Any) -> Any:
        def build(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            return getattr(builder, method)(*arguments, flags=FAST_MATH)

        return vector(vector, vector), build

    return apply


def _choice(predicate: str) -> Callable[..., Any]:
    """The lanes of the left vector where the comparison holds, of the right one elsewhere."""

    @intrinsic
    def apply(context: Any, left: Any, right: Any) -> Any:
        def build(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            return builder.select(builder.fcmp_unordered(predicate, *arguments), *arguments)

        return vector(vector, vector), build

    return apply


maximum = _choice(">")  # NaN where the left one is NaN


@intrinsic
def where_positive(context: Any, condition: Any, left: Any, right: Any) -> Any:
    """The lanes of `left` where `condition` is 0 or more, of `right` elsewhere."""

    def build(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        condition, left, right = arguments
        return builder.select(builder.fcmp_ordered(">=", condition, _constant(0.0)), left, right)

    return vector(vector, vector, vector), build


def _overload(symbol: Callable[..., Any], instruction: Callable[..., Any]) -> None:
    """Make `symbol` work on two vectors, and on a vector and a number."""

    @overload(symbol)
    def choose(left, right):  # numba compares the parameters with the lambdas
        if isinstance(left, Vector) and isinstance(right, Vector):
            return lambda left, right: instruction(left, right)
        if isinstance(left, Vector) and isinstance(right, types.Float):
            return lambda left, right: instruction(left, splat(np.float32(right)))
        if isinstance(left, types.Float) and isinstance(right, Vector):
            return lambda left, right: instruction(splat(np.float32(left)), right)
        return None


for _symbol, _method in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _overload(_symbol, _operator(_method))
