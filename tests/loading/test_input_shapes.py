import pytest
from onnx import TensorProto, helper

from isthmus.errors import ModelError
from isthmus.loading.input_shapes import fixed_inputs, open_shapes
from isthmus.loading.shape_inference import declared_type


def inputs(**shapes):
    return [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]


def fixed(declared, **shapes):
    return {v.name: declared_type(v).static_shape for v in fixed_inputs(declared, shapes)}


def test_given_shapes_stand_where_the_file_leaves_them_open():
    declared = inputs(x=("n", 3, None, None), any_rank=None, y=(1, 4))
    stored = [value.SerializeToString() for value in declared]
    shapes = {"x": (2, 3, 48, 320), "any_rank": (), "y": (1, 4)}
    assert fixed(declared, **shapes) == shapes
    assert [value.SerializeToString() for value in declared] == stored
    assert open_shapes(declared) == ("x", "any_rank")


def test_a_symbol_has_one_size_in_all_inputs():
    assert fixed(inputs(x=("n", 4), mask=("n", 1, 7)), x=(5, 4)) == {"x": (5, 4), "mask": (5, 1, 7)}


def test_a_symbol_of_several_sizes_says_nothing_of_other_inputs():
    declared = inputs(x=(1, "?", "?"), y=(1, "?"))
    assert fixed(declared, x=(1, 48, 192), y=(1, 7)) == {"x": (1, 48, 192), "y": (1, 7)}
    with pytest.raises(ModelError, match="of input 'y' is open"):
        fixed(declared, x=(1, 48, 192))


def test_sizes_below_one_in_a_file_are_open():
    declared = inputs(x=(-1, 3))
    assert fixed(declared, x=(2, 3)) == {"x": (2, 3)}


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ({"photo": (1, 3)}, "for 'photo', which is no input; the inputs are 'x', 'y'"),
        ({"x": (1, 3, 8, 8)}, r"\(1, 3, 8, 8\) given for 'x' does not fit .* \(n, 3, \?\)"),
        ({"x": (1, 4, 8)}, r"\(1, 4, 8\) given for 'x' does not fit"),
        ({"x": (1, 3, 0)}, "size that is below 1"),
        ({"y": (2, 4)}, r"\(2, 4\) given for 'y' does not fit the network's, \(1, 4\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes, says):
    with pytest.raises(ModelError, match=says):
        fixed(inputs(x=("n", 3, None), y=(1, 4)), **shapes)


def test_all_open_inputs_are_named_at_once():
    with pytest.raises(ModelError) as caught:
        fixed(inputs(x=(None, None, None, None), y=("a", "b")))
    assert "`--shape x=1,3,480,480` `--shape y=1,480`" in str(caught.value)
    assert "'y' is open: (a, b)" in str(caught.value)


def test_an_input_that_is_no_tensor_is_named():
    element = helper.make_tensor_type_proto(TensorProto.FLOAT, (1,))
    value = helper.make_value_info("boxes", helper.make_sequence_type_proto(element))
    with pytest.raises(ModelError, match="'boxes' is no tensor"):
        fixed([value])
