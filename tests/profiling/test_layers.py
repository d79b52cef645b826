from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from isthmus.errors import ModelError
from isthmus.loading.onnx_file import load_graph
from isthmus.profiling.layers import (
    FusedUnit,
    layer_shares_s,
    measure_layers,
    units_of_kernels,
)
from isthmus.runtime.session import Kernel
from isthmus.types.graph import Layer, ModelGraph, TensorSpec


def graph_of(*layers, outputs=("y",)):
    """A network of layers ``(name, operator, inputs, output)``, all tensors of one shape."""
    nodes = tuple(Layer(n, op, tuple(reads), (writes,), 1, 0) for n, op, reads, writes in layers)
    names = {"x", *(name for layer in nodes for name in layer.outputs)}
    tensors = {name: TensorSpec(name, "float32", (1, 4)) for name in names}
    return ModelGraph("n", "0" * 64, ("x",), outputs, nodes, tensors)


def kernels(*names):
    """Kernels ``name:operator``, a microsecond each."""
    return [Kernel(*name.split(":"), ((1, 4),), 1e-6) for name in names]


CHAIN = graph_of(
    ("conv", "Conv", "x", "a"),
    ("bn", "BatchNormalization", "a", "b"),
    ("relu", "Relu", "b", "c"),
    ("conv2", "Conv", "c", "d"),
    ("relu2", "Relu", "d", "y"),
)


def test_a_kernel_called_by_its_last_tensor_has_all_before_it():
    found = units_of_kernels(CHAIN, kernels("c_nchwc:Conv", "y_nchwc:Conv"))
    assert found == [(0, 1, 2), (3, 4)]


def test_a_kernel_called_by_its_first_layer_has_what_follows():
    assert units_of_kernels(CHAIN, kernels("conv:FusedConv", "conv2:FusedConv")) == [
        (0, 1, 2),
        (3, 4),
    ]


def test_changes_of_layout_belong_to_a_neighbour():
    run = kernels(
        "ReorderInput:ReorderInput", "c_nchwc:Conv", "out:ReorderOutput", "in:Cast", "conv2:Conv",
        "relu2:Relu", "out2:Cast",
    )  # fmt: skip
    assert units_of_kernels(CHAIN, run) == [
        (0, 1, 2), (0, 1, 2), (0, 1, 2), (3,), (3,), (4,), (4,),
    ]  # fmt: skip


def test_kernels_without_a_known_name_are_traced_by_what_they_do():
    assert units_of_kernels(CHAIN, kernels("p:FusedConv", "q:FusedConv")) == [(0, 1, 2), (3, 4)]
    product = graph_of(("mm", "MatMul", "x", "a"), ("add", "Add", "a", "y"))
    assert units_of_kernels(product, kernels("mm/MatMulAddFusion:Gemm")) == [(0, 1)]


def test_a_normalisation_that_became_a_convolution_takes_no_convolution_from_others():
    graph = graph_of(
        ("pool", "MaxPool", "x", "a"),
        ("bn", "BatchNormalization", "a", "b"),
        ("conv", "Conv", "b", "y"),
    )
    found = units_of_kernels(graph, kernels("pool:MaxPool", "b_bn_nchwc:Conv", "y_nchwc:Conv"))
    assert found == [(0,), (1,), (2,)]


def test_a_sum_fused_into_one_of_two_branches_joins_the_later_one():
    graph = graph_of(
        ("conv", "Conv", "x", "a"), ("conv2", "Conv", "a", "b"), ("add", "Add", "ab", "y")
    )
    assert units_of_kernels(graph, kernels("a_nchwc:Conv", "y_nchwc:Conv")) == [(0,), (1, 2)]


def test_equal_branches_of_which_one_is_run_have_no_kernel():
    graph = graph_of(
        ("concat", "Concat", "x", "a"),
        ("conv", "Conv", "a", "b"),
        ("relu", "Relu", "b", "c"),
        ("conv2", "Conv", "a", "d"),
        ("relu2", "Relu", "d", "e"),
        ("sum", "Sum", "ce", "y"),
    )
    run = kernels("concat:Concat", "e_nchwc:Conv", "sum:Sum")
    assert units_of_kernels(graph, run) == [(0,), (3, 4), (5,)]


def test_layers_that_vanished_at_the_inputs_join_what_reads_them():
    graph = graph_of(
        ("scale", "Mul", "x", "a"), ("cast", "Cast", "a", "b"), ("conv", "Conv", "b", "y")
    )
    assert units_of_kernels(graph, kernels("conv:Conv")) == [(0, 1, 2)]
    aside = graph_of(("conv", "Conv", "x", "y"), ("same", "Identity", "x", "z"), outputs=("y", "z"))
    assert units_of_kernels(aside, kernels("conv:Conv")) == [(0, 1)]


def test_foreign_kernels_alone_are_refused():
    with pytest.raises(ModelError, match="nothing that the file"):
        units_of_kernels(CHAIN, kernels("a:Alien"))


def test_a_network_is_measured_and_every_layer_accounted_for(small_model_path):
    graph = load_graph(small_model_path)
    times = measure_layers(graph, small_model_path, runs=4)
    assert sorted(i for unit in times.units for i in unit.layers) == list(range(len(graph.layers)))
    assert len(times.units) < len(graph.layers)
    assert {graph.layers[i].op_type for i in times.units[0].layers} == {"Conv", "Relu"}
    assert times.network_s > 0
    assert sum(unit.seconds for unit in times.units) > 0
    with pytest.raises(ValueError, match="2 runs"):
        measure_layers(graph, small_model_path, runs=1)


def test_real_networks_are_traced_layer_by_layer():
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    path = folder / "light_shufflenet.onnx"
    graph = load_graph(path)
    times = measure_layers(graph, path, runs=2)
    assert sorted(i for unit in times.units for i in unit.layers) == list(range(len(graph.layers)))
    heavy = {"Conv", "Gemm"}
    assert all(
        sum(graph.layers[i].op_type in heavy for i in unit.layers) <= 1 for unit in times.units
    )


def test_a_units_time_is_shared_out_by_operations():
    layers = [
        replace(layer, flops=f) for layer, f in zip(CHAIN.layers, (98, 1, 1, 0, 0), strict=True)
    ]
    graph = replace(CHAIN, layers=tuple(layers))
    units = [FusedUnit((0, 1, 2), 2.0), FusedUnit((3, 4), 1.0)]
    assert layer_shares_s(graph, units).tolist() == pytest.approx([1.96, 0.02, 0.02, 0.5, 0.5])
