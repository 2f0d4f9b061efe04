"""The operations that a traced graph of this library is made of, in the words of ONNX.

All shapes are known when a function is traced, so everything that only rearranges shapes becomes one Reshape.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch.fx import Graph, Node

aten = torch.ops.aten

OPSET = 20  # the first with Gelu and with LayerNormalization's mean
IR_VERSION = 10  # that of the same release of ONNX: older runtimes read it


class Translation:
    """One graph on its way to ONNX: its nodes, its constants, and how each value is called."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[bytes, onnx.TensorProto] = {}
        self.names: dict[Node, Any] = {}

    def emit(self, op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> None:
        """Add an ONNX node."""
        self.nodes.append(helper.make_node(op, list(inputs), list(outputs), **attributes))

    def constant(self, values: Any, dtype: Any) -> str:
        """The name of a constant; equal ones are stored once."""
        array = np.asarray(values, dtype)
        key = repr((array.dtype.str, array.shape)).encode() + array.tobytes()
        if key not in self.constants:
            self.constants[key] = numpy_helper.from_array(array, f"constant_{len(self.constants)}")
        return self.constants[key].name

    def value(self, argument: Any, like: torch.dtype = torch.float32) -> str:
        """The name of an argument: a traced value, or a number that becomes a constant."""
        if isinstance(argument, Node):
            return self.names[argument]
        return self.constant(argument, torch.empty((), dtype=like).numpy().dtype)

    def add(self, node: Node) -> None:
        """Translate one traced operation."""
        if node.target not in TABLE:
            raise NotImplementedError(
                f"{node.target} has no translation to ONNX; add a line to TABLE in {__name__}, "
                "or a decomposition into others to mambaout.export.tracing"
            )
        self.names[node] = node.name
        TABLE[node.target](self, node)


def shape(node: Node) -> list[int]:
    """The shape of a traced value."""
    return list(node.meta["val"].shape)


def arguments(node: Node, *defaults: Any, count: int) -> list[Any]:
    """The first `count` arguments of an operation; those that are not given are the last of the defaults."""
    given: list[Any] = list(node.args)[:count]
    return given + list(defaults[len(defaults) - (count - len(given)) :])


def _same(op: str) -> Callable[[Translation, Node], None]:
    """An operation that ONNX has under another name, elementwise or on two matrices."""

    def translate(t: Translation, node: Node) -> None:
        if node.kwargs.get("alpha", 1) != 1:
            raise NotImplementedError(f"{node.target} with a factor (alpha)")
        t.emit(op, [t.value(argument, node.meta["val"].dtype) for argument in node.args], [node.name])

    return translate


def _reshape(t: Translation, node: Node) -> None:
    t.emit("Reshape", [t.value(node.args[0]), t.constant(shape(node), np.int64)], [node.name])


def _alias(t: Translation, node: Node) -> None:
    t.names[node] = t.value(node.args[0])


def _getitem(t: Translation, node: Node) -> None:
    whole, index = arguments(node, count=2)
    t.names[node] = t.names[whole][index]


def _permute(t: Translation, node: Node) -> None:
    x, order = arguments(node, [1, 0], count=2)
    t.emit("Transpose", [t.value(x)], [node.name], perm=[axis % len(order) for axis in order])


def _convolution(t: Translation, node: Node) -> None:
    x, weight, bias, stride, padding, dilation, transposed, extra, groups = arguments(node, count=9)
    inputs = [t.value(x), t.value(weight)] + ([] if bias is None else [t.value(bias)])
    options: dict[str, Any] = {"strides": stride, "pads": padding * 2, "dilations": dilation, "group": groups}
    if transposed:
        options["output_padding"] = extra
    t.emit("ConvTranspose" if transposed else "Conv", inputs, [node.name], **options)


def _layer_norm(t: Translation, node: Node) -> None:
    x, sizes, weight, bias, eps = arguments(node, count=5)
    t.names[node] = [node.name, f"{node.name}_mean", f"{node.name}_rstd"]
    inputs = [t.value(x), t.value(weight), t.value(bias)]
    t.emit("LayerNormalization", inputs, t.names[node], axis=-len(sizes), epsilon=eps)


def _gelu(t: Translation, node: Node) -> None:
    t.emit("Gelu", [t.value(node.args[0])], [node.name], approximate=node.kwargs.get("approximate", "none"))


def _softmax(t: Translation, node: Node) -> None:
    t.emit("Softmax", [t.value(node.args[0])], [node.name], axis=node.args[1])


def _cat(t: Translation, node: Node) -> None:
    parts, axis = arguments(node, 0, count=2)
    t.emit("Concat", [t.value(part) for part in parts], [node.name], axis=axis)


def _split(t: Translation, node: Node) -> None:
    x, sizes, axis = arguments(node, 0, count=3)
    t.names[node] = [f"{node.name}_{i}" for i in range(len(sizes))]
    t.emit("Split", [t.value(x), t.constant(sizes, np.int64)], t.names[node], axis=axis)


def _slice(t: Translation, node: Node) -> None:
    x, axis, start, end, step = arguments(node, 0, None, None, 1, count=5)
    bounds = ([start or 0], [2**62 if end is None else end], [axis], [step])
    t.emit("Slice", [t.value(x), *(t.constant(bound, np.int64) for bound in bounds)], [node.name])


def _select(t: Translation, node: Node) -> None:
    x, axis, index = arguments(node, count=3)
    t.emit("Gather", [t.value(x), t.constant(index, np.int64)], [node.name], axis=axis)


def _pad(t: Translation, node: Node) -> None:
    x, pads, fill = arguments(node, 0.0, count=3)  # pads from the last axis back: before, after, before, ...
    rank = len(shape(node))
    before, after = ([0] * (rank - len(side)) + list(side)[::-1] for side in (pads[0::2], pads[1::2]))
    sides = t.constant(before + after, np.int64)
    t.emit("Pad", [t.value(x), sides, t.constant(fill, np.float32)], [node.name])


def _reduce(op: str) -> Callable[[Translation, Node], None]:
    def translate(t: Translation, node: Node) -> None:
        x, axes, keep = arguments(node, False, count=3)
        t.emit(op, [t.value(x), t.constant(axes, np.int64)], [node.name], keepdims=int(keep))

    return translate


def _expand(t: Translation, node: Node) -> None:
    t.emit("Expand", [t.value(node.args[0]), t.constant(shape(node), np.int64)], [node.name])


def _reversed_sub(t: Translation, node: Node) -> None:
    t.emit("Sub", [t.value(node.args[1]), t.value(node.args[0])], [node.name])


TABLE: dict[Any, Callable[[Translation, Node], None]] = {
    **dict.fromkeys((aten.add.Tensor, aten.add_.Tensor), _same("Add")),
    aten.sub.Tensor: _same("Sub"),
    aten.rsub.Scalar: _reversed_sub,
    aten.mul.Tensor: _same("Mul"),
    aten.div.Tensor: _same("Div"),
    aten.mm.default: _same("MatMul"),
    aten.neg.default: _same("Neg"),
    aten.abs.default: _same("Abs"),
    aten.exp.default: _same("Exp"),
    aten.erf.default: _same("Erf"),
    aten.sigmoid.default: _same("Sigmoid"),
    aten.softplus.default: _same("Softplus"),
    aten.gelu.default: _gelu,
    aten._softmax.default: _softmax,
    aten.native_layer_norm.default: _layer_norm,
    aten.convolution.default: _convolution,
    aten.sum.dim_IntList: _reduce("ReduceSum"),
    aten.mean.dim: _reduce("ReduceMean"),
    **dict.fromkeys((aten.view.default, aten._unsafe_view.default, aten.reshape.default), _reshape),
    **dict.fromkeys((aten.unsqueeze.default, aten.squeeze.dim, aten.squeeze.dims), _reshape),
    **dict.fromkeys((aten.t.default, aten.permute.default), _permute),
    **dict.fromkeys((aten.clone.default, aten.detach.default, aten.alias.default), _alias),
    operator.getitem: _getitem,
    aten.cat.default: _cat,
    aten.split_with_sizes.default: _split,
    aten.slice.Tensor: _slice,
    aten.select.int: _select,
    aten.constant_pad_nd.default: _pad,
    aten.expand.default: _expand,
}


def translate(
    graph: Graph, parameters: Sequence[onnx.TensorProto], inputs: Sequence[str], outputs: Sequence[str]
) -> onnx.ModelProto:
    """A traced graph as an ONNX model.

    Args:
        graph: its first placeholders are parameters, the others inputs.
        parameters: the initialisers that stand for them, in that order.
        inputs, outputs: names for the others and for the results.

    Raises:
        NotImplementedError: the graph has an operation that the table lacks.
    """
    t = Translation()
    placeholders = graph.find_nodes(op="placeholder")
    names = [*(tensor.name for tensor in parameters), *inputs]
    t.names.update(zip(placeholders, names, strict=True))
    for node in graph.nodes:
        if node.op == "call_function":
            t.add(node)
    returned: Any = graph.output_node().args[0]
    results = [returned] if isinstance(returned, Node) else list(returned)
    for name, node in zip(outputs, results, strict=True):
        t.emit("Identity", [t.value(node)], [name])

    def described(name: str, node: Node) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape(node))

    used = {name for node in t.nodes for name in node.input}
    built = helper.make_graph(
        t.nodes,
        "mambaout",
        [described(name, node) for name, node in zip(inputs, placeholders[len(parameters) :], strict=True)],
        [described(name, node) for name, node in zip(outputs, results, strict=True)],
        [tensor for tensor in [*parameters, *t.constants.values()] if tensor.name in used],
    )
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(built, opset_imports=opset, ir_version=IR_VERSION, producer_name="mambaout")
