import dataclasses
import time

import numpy as np
import pytest

from isthmus.errors import (
    BadReplyError,
    ImageError,
    NoPlanError,
    RemoteTimeoutError,
)
from isthmus.loading.onnx_file import graph_from_model, load_variant
from isthmus.loading.split import split_model
from isthmus.planning.columns import columns_for
from isthmus.planning.decide import predict
from isthmus.planning.plan_table import PlanEntry, compile_table, link_terms
from isthmus.runtime import codecs, image, plan_runner, protocol
from isthmus.runtime.heads import Heads
from isthmus.runtime.image_codecs import IMAGE_CODECS
from isthmus.runtime.plan_runner import Job, PlanRunner, StageTimes
from isthmus.runtime.session import Session
from isthmus.runtime.transport import Exchange
from isthmus.types.conditions import Conditions
from isthmus.types.link import Link
from isthmus.types.plan import PlanRow

NAME = "small"
CUT = "cut-x"

ROWS = {
    "local": PlanRow(NAME, "local"),
    "file": PlanRow(NAME, "file", unit="small.image"),
    "resized": PlanRow(NAME, "resized", codec="jpeg-85", unit="small.image", is_lossless=False),
    "resized lossless": PlanRow(NAME, "resized", codec="webp-lossless", unit="small.image"),
    "tensor": PlanRow(NAME, "tensor", ("image",), codec="u8", unit=NAME),
    "split": PlanRow(NAME, "split", ("x",), cut_id=CUT, codec="raw", unit="small.tail"),
    "split u8": PlanRow(
        NAME, "split", ("x",), cut_id=CUT, codec="u8+zstd", unit="small.tail", is_lossless=False
    ),
}


class Edge:
    """A transport that answers at once, as an edge server would, and reports any timings."""

    def __init__(self, whole, tail, pipeline):
        self.sessions = {"small.image": whole, "small": whole, "small.tail": tail}
        self.pipeline = pipeline
        self.is_connected = True
        self.timing = "queue;dur=1, decode;dur=2, infer;dur=4, total;dur=8"
        self.elapsed_s = 0.020
        self.connect_s = 0.0
        self.failure = None
        self.body = None
        self.parameters = {}
        self.requests = []

    def exchange(self, method, path, *, headers=None, body=b"", timeout_s):
        self.requests.append((method, path, timeout_s))
        if self.failure is not None:
            raise self.failure
        model = path.removeprefix("v2/models/").removesuffix("/infer")
        request = protocol.unpack_request(headers, body)
        session = self.sessions[model]
        feeds = {}
        for tensor in request.inputs:
            self.parameters = tensor.payload.parameters
            if model.endswith(".image"):
                feeds["image"] = self.prepared(tensor.payload)
            else:
                feeds[tensor.name] = codecs.decode(tensor.payload, limit_bytes=1 << 20)
        outputs = tuple(
            protocol.WireTensor(name, codecs.CODECS["raw"].encode(array))
            for name, array in session.run(feeds).items()
        )
        reply_headers, reply = protocol.pack_reply(protocol.InferReply(model, outputs))
        reply_headers = {key.lower(): value for key, value in reply_headers.items()}
        if self.timing:
            reply_headers["server-timing"] = self.timing
        reply = reply if self.body is None else self.body
        return Exchange(reply_headers, reply, len(body), len(reply), self.connect_s, self.elapsed_s)

    def prepared(self, payload):
        data = protocol.bytes_element(payload)
        if payload.parameters.get("cropped"):
            pixels = image.decode_cropped(data, self.pipeline)
        else:
            side_px = self.pipeline.resize_shorter_side_px
            pixels = image.fit(image.decode(data, shorter_side_px=side_px), self.pipeline)
        return image.normalise(image.planar(pixels, self.pipeline), self.pipeline)

    def close(self):
        pass


@pytest.fixture(scope="module")
def parts(small_network, small_model_path, tmp_path_factory):
    """The paths of the network and its head, and the bytes of its tail."""
    model = small_network()
    split = split_model(model, graph_from_model(model, name=NAME, sha256="0" * 64), ["x"])
    head = tmp_path_factory.mktemp("heads") / "head.onnx"
    head.write_bytes(split.head.SerializeToString())
    return {"": small_model_path, CUT: head}, split.tail.SerializeToString()


@pytest.fixture
def edge(parts, pipeline16):
    paths, tail = parts
    with Session(paths[""]) as whole, Session(tail) as behind:
        yield Edge(whole, behind, pipeline16)


@pytest.fixture
def runner(parts, edge):
    paths, _ = parts
    heads = Heads(lambda _, cut_id: paths[cut_id])
    yield PlanRunner({NAME: load_variant(paths[""], name=NAME)}, heads, edge)
    heads.close()


@pytest.fixture(scope="module")
def photograph(make_photograph):
    return make_photograph(seed=3)


@pytest.fixture
def expected(parts, photograph, pipeline16):
    """The whole network's answer, computed apart from the runner."""
    pixels = image.fit(image.decode(photograph, shorter_side_px=20), pipeline16)
    tensor = (pixels.transpose(2, 0, 1)[None] - np.array(pipeline16.mean).reshape(1, 3, 1, 1)) / (
        np.array(pipeline16.std).reshape(1, 3, 1, 1)
    )
    with Session(parts[0][""]) as session:
        return session.run({"image": tensor.astype(np.float32)})["logits"]


def run(runner, row, photograph, pace=None):
    times = StageTimes() if pace is None else StageTimes(pace)
    begun_at_s = time.perf_counter()
    result = runner.run(row, Job(photograph, times), timeout_s=5.0)
    return result, times.seconds, time.perf_counter() - begun_at_s


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_every_family_gives_the_networks_answer(runner, photograph, expected, row):
    result, _, _ = run(runner, row, photograph)
    assert list(result.outputs) == ["logits"]
    error = np.abs(result.outputs["logits"] - expected).max()
    limit = 1e-4 if row.is_lossless else 0.3 * np.ptp(expected)
    assert error <= limit


STAGES = {
    "local": {"decode", "preprocess", "head"},
    "file": {"encode"},
    "resized": {"decode", "preprocess", "encode"},
    "resized lossless": {"decode", "preprocess", "encode"},
    "tensor": {"decode", "preprocess", "encode"},
    "split": {"decode", "preprocess", "head", "encode"},
    "split u8": {"decode", "preprocess", "head", "encode"},
}
REMOTE = {"connect", "upload", "wait", "server_decode", "server", "download"}


@pytest.mark.parametrize("name", ROWS)
def test_each_family_takes_its_own_stages(runner, photograph, name):
    _, seconds, _ = run(runner, ROWS[name], photograph)
    assert seconds.keys() == STAGES[name] | (set() if name == "local" else REMOTE)
    assert all(value >= 0 for value in seconds.values())


@pytest.mark.parametrize("name", ROWS)
def test_the_stages_add_up_to_the_whole(runner, edge, photograph, name):
    runner.heads.load(ROWS.values())
    edge.elapsed_s = 0.0  # it takes part in the real time, so it must not be booked twice
    _, seconds, total_s = run(runner, ROWS[name], photograph)
    assert sum(seconds.values()) <= total_s


class Slow:
    """A device that takes 20 ms longer for every stage, on a clock that only it moves."""

    def __init__(self):
        self.now = 100.0
        self.stages = 0

    def now_s(self):
        self.now += 0.001  # a stage reads the clock twice before it is told
        return self.now

    def after(self, busy_s):
        assert busy_s == pytest.approx(0.001)
        self.stages += 1
        self.now += 0.020


@pytest.mark.parametrize("name", ["local", "split"])
def test_the_pace_is_told_each_stage_and_its_sleeping_counts(runner, photograph, monkeypatch, name):
    pace = Slow()
    monkeypatch.setattr(plan_runner, "now_s", pace.now_s)
    _, seconds, _ = run(runner, ROWS[name], photograph, pace)
    # Preprocess and encode have two parts: fit and normalise, codec and message.
    parts = {"decode": 1, "preprocess": 2, "head": 1, **({"encode": 2} if name == "split" else {})}
    assert pace.stages == sum(parts.values())
    assert {stage: seconds[stage] for stage in parts} == pytest.approx(
        {stage: count * 0.022 for stage, count in parts.items()}
    )


def test_an_exchange_is_told_apart_by_what_the_server_reports(runner, edge, photograph):
    edge.connect_s = 0.003
    result, seconds, _ = run(runner, ROWS["tensor"], photograph)
    booked = {stage: seconds[stage] for stage in REMOTE}
    assert booked == pytest.approx(
        {
            "connect": 0.003,
            "upload": 0.012,
            "wait": 0.001,
            "server_decode": 0.002,
            "server": 0.005,
            "download": 0.0,
        }
    )
    assert result.network_s == pytest.approx(0.012)
    assert not result.was_cold


@pytest.mark.parametrize(("predicted_s", "download_s"), [(0.004, 0.004), (9.0, 0.012)])
def test_the_download_is_what_the_link_predicts_but_no_more_than_there_is(
    edge, runner, photograph, predicted_s, download_s
):
    asked = []
    told = PlanRunner(
        runner.variants, runner.heads, edge, lambda size: asked.append(size) or predicted_s
    )
    result, seconds, _ = run(told, ROWS["tensor"], photograph)
    assert asked == [result.received_bytes]
    assert seconds["download"] == pytest.approx(download_s)
    assert seconds["upload"] + seconds["download"] == pytest.approx(0.012)


def test_loading_counts_as_waiting_and_makes_the_request_cold(runner, edge, photograph):
    edge.timing = "queue;dur=1, load;dur=3, infer;dur=4, total;dur=9"
    result, seconds, _ = run(runner, ROWS["file"], photograph)
    assert result.was_cold
    assert seconds["wait"] == pytest.approx(0.004)


@pytest.mark.parametrize(
    "timing",
    [
        "total;dur=5000",
        "queue;dur=5000, total;dur=8",
        "queue;dur=7, load;dur=9, decode;dur=5000, total;dur=8",
        "decode;dur=5000, total;dur=8",
        "queue;dur=5000",
        "total;dur=nan, queue;dur=inf",
        "total;dur=-5",
    ],
)
def test_a_servers_impossible_times_are_clamped_to_the_exchange(runner, edge, photograph, timing):
    edge.timing = timing
    result, seconds, _ = run(runner, ROWS["tensor"], photograph)
    assert all(seconds[stage] >= 0 for stage in REMOTE)
    assert sum(seconds[stage] for stage in REMOTE) == pytest.approx(edge.elapsed_s)
    assert 0 <= result.network_s <= edge.elapsed_s


def test_a_server_that_tells_no_times_counts_as_link(runner, edge, photograph):
    edge.timing = ""
    result, seconds, _ = run(runner, ROWS["tensor"], photograph)
    assert seconds["upload"] == edge.elapsed_s == result.network_s
    assert seconds["server"] == seconds["wait"] == seconds["server_decode"] == 0


def test_the_exchange_goes_to_the_rows_unit_with_the_time_out(runner, edge, photograph):
    run(runner, ROWS["split"], photograph)
    assert edge.requests == [("POST", "v2/models/small.tail/infer", 5.0)]


def test_any_name_of_a_unit_makes_a_path(runner, edge, photograph):
    edge.failure = RemoteTimeoutError("too late")
    row = PlanRow(NAME, "file", unit="größe/a b?.image")
    with pytest.raises(RemoteTimeoutError):
        run(runner, row, photograph)
    path = edge.requests[0][1]
    assert path == "v2/models/gr%C3%B6%C3%9Fe%2Fa%20b%3F.image/infer"


@pytest.mark.parametrize("failure", [RemoteTimeoutError("too late"), KeyError("a bug")])
def test_a_failed_exchange_is_booked_as_waiting(runner, edge, photograph, failure):
    edge.failure = failure
    times = StageTimes()
    with pytest.raises(type(failure)):
        runner.run(ROWS["tensor"], Job(photograph, times), timeout_s=5.0)
    assert times.seconds["wait"] > 0
    assert times.seconds.keys().isdisjoint({"upload", "download", "server"})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[1",
        b'{"outputs": [{"name": "logits", "datatype": "FP32", "shape": [3], "data": [1]}]}',
        b'{"outputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "data": ["x"]}]}',
    ],
)
def test_a_reply_that_is_none_is_a_bad_reply_and_booked_as_waiting(runner, edge, photograph, body):
    edge.body = body
    times = StageTimes()
    with pytest.raises(BadReplyError):
        runner.run(ROWS["tensor"], Job(photograph, times), timeout_s=5.0)
    assert "wait" in times.seconds


def test_a_reply_in_json_may_be_shorter_than_its_tensor(parts, edge, runner, photograph):
    text = b'{"outputs":[{"name":"logits","datatype":"FP64","shape":[99],"data":[%s0]}]}'

    class InJson(Edge):
        def exchange(self, *arguments, **options):
            body = text % (b"0," * 98)
            return Exchange({}, body, 100, len(body), 0.0, 0.001)

    json_only = InJson(None, None, None)
    told = PlanRunner(runner.variants, runner.heads, json_only)
    result, _, _ = run(told, ROWS["tensor"], photograph)
    assert result.outputs["logits"].tolist() == [0.0] * 99


@pytest.mark.parametrize("change", [{"family": "returned"}, {"cloud_tensors": ("y",)}])
def test_what_can_only_be_planned_is_refused_by_name(runner, photograph, change):
    row = dataclasses.replace(ROWS["tensor"], **change)
    with pytest.raises(NoPlanError, match="can only be planned"):
        run(runner, row, photograph)


def test_without_a_server_only_local_rows_run(runner, photograph, expected):
    alone = PlanRunner(runner.variants, runner.heads)
    result, _, _ = run(alone, ROWS["local"], photograph)
    np.testing.assert_allclose(result.outputs["logits"], expected, atol=1e-4)
    with pytest.raises(NoPlanError, match="needs a server"):
        run(alone, ROWS["file"], photograph)


def test_a_network_without_pipeline_takes_no_photographs(runner, photograph):
    import dataclasses

    variant = dataclasses.replace(runner.variants[NAME], pipeline=None)
    without = PlanRunner({NAME: variant}, runner.heads)
    with pytest.raises(NoPlanError, match="pipeline"):
        run(without, ROWS["local"], photograph)


def test_bytes_that_are_no_image_are_named(runner):
    with pytest.raises(ImageError):
        run(runner, ROWS["local"], b"no image")


def test_outputs_that_the_head_computes_are_part_of_the_answer(
    small_network, pipeline16, photograph, tmp_path
):
    model = small_network(two_answers=True)
    paths = {"": tmp_path / "two.onnx", "cut-y": tmp_path / "head.onnx"}
    paths[""].write_bytes(model.SerializeToString())
    split = split_model(model, graph_from_model(model, name="two", sha256="0" * 64), ["y"])
    paths["cut-y"].write_bytes(split.head.SerializeToString())
    heads = Heads(lambda _, cut_id: paths[cut_id])
    row = PlanRow("two", "split", ("y",), cut_id="cut-y", codec="raw", unit="small.tail")
    with Session(paths[""]) as whole, Session(split.tail.SerializeToString()) as tail:
        variants = {"two": load_variant(paths[""], name="two")}
        runner = PlanRunner(variants, heads, Edge(whole, tail, pipeline16))
        result, _, _ = run(runner, row, photograph)
        expected, _, _ = run(runner, PlanRow("two", "local"), photograph)
    assert result.outputs.keys() == expected.outputs.keys() == {"logits", "x"}
    for name, array in expected.outputs.items():
        np.testing.assert_allclose(result.outputs[name], array, atol=1e-4)


def test_a_second_plan_goes_on_with_what_the_first_has_made(runner, photograph, monkeypatch):
    decoded = []
    decode = image.decode
    monkeypatch.setattr(image, "decode", lambda *a, **o: decoded.append(1) or decode(*a, **o))
    first = Job(photograph, StageTimes())
    _ = first.facts
    runner.run(ROWS["tensor"], first, timeout_s=5.0)
    times = StageTimes()
    second = first.again(times)
    runner.run(ROWS["local"], second, timeout_s=5.0)
    assert decoded == [1]
    assert "decode" not in times.seconds
    assert second.facts is first.facts
    assert "preprocess" in times.seconds  # normalising is the second plan's own


def test_one_decoding_serves_pipelines_of_the_same_size(photograph, pipeline16):
    import dataclasses

    job = Job(photograph, StageTimes())
    job.pixels(pipeline16)
    times = StageTimes()
    other = dataclasses.replace(pipeline16, interpolation="bicubic")
    assert job.again(times).pixels(other).shape == (16, 16, 3)
    assert times.seconds.keys() == {"preprocess"}


def test_stages_that_recur_add_up():
    times = StageTimes()
    times.add("encode", 0.25)
    times.add("encode", 0.5)
    assert times.seconds == {"encode": 0.75}


@pytest.mark.parametrize("name", ROWS)
def test_preparing_does_the_devices_work_and_sends_nothing(runner, edge, photograph, name):
    times = StageTimes()
    job = Job(photograph, times)
    prepared = runner.prepare(ROWS[name], job)
    assert edge.requests == []
    assert times.seconds.keys() == STAGES[name]
    assert prepared.row is ROWS[name]
    device_s = dict(times.seconds)
    result = runner.send(prepared, job, timeout_s=5.0)
    assert {stage: times.seconds[stage] for stage in device_s} == device_s
    assert result.sent_bytes == prepared.sent_bytes == len(prepared.body)
    assert (prepared.sent_bytes == 0) is ROWS[name].is_local
    assert len(edge.requests) == (0 if ROWS[name].is_local else 1)


@pytest.mark.parametrize("name", ROWS)
def test_it_is_told_as_what_the_input_crossed(runner, edge, photograph, name):
    expected = {"local": "", "file": "file"}.get(name, ROWS[name].codec)
    result, _, _ = run(runner, ROWS[name], photograph)
    assert result.sent_as == expected
    if expected:
        assert (edge.parameters.get("cropped") is True) is (ROWS[name].family == "resized")


def test_a_file_that_is_no_larger_than_the_image_made_of_it_crosses_itself(
    runner, edge, make_photograph, pipeline16
):
    small = make_photograph(width=20, height=16, seed=9)
    made = IMAGE_CODECS["jpeg-95"].encode(
        image.fit(image.decode(small, shorter_side_px=20), pipeline16)
    )
    assert len(made) > len(small)
    row = PlanRow(NAME, "resized", codec="jpeg-95", unit="small.image", is_lossless=False)
    whole = runner.prepare(PlanRow(NAME, "file", unit="small.image"), Job(small, StageTimes()))
    prepared = runner.prepare(row, Job(small, StageTimes()))
    assert (prepared.row, prepared.sent_as) == (row, "file")
    assert prepared.body == whole.body
    result, _, _ = run(runner, row, small)
    assert result.sent_as == "file"
    assert "cropped" not in edge.parameters
    local, _, _ = run(runner, ROWS["local"], small)
    np.testing.assert_allclose(result.outputs["logits"], local.outputs["logits"], atol=1e-4)


def test_a_small_file_is_sent_as_planned(runner, make_photograph):
    as_file = PlanRow(NAME, "file", unit="small.image")
    resized = PlanRow(NAME, "resized", codec="jpeg-95", unit="small.image", is_lossless=False)

    def entry(row, size):
        link = link_terms(row.family, sent_bytes=size, received_bytes=0)
        return PlanEntry(row, link, sent_bytes=size)

    def prepared(row, photograph):
        return runner.prepare(row, Job(photograph, StageTimes()))

    large, small = make_photograph(seed=3), make_photograph(width=20, height=16, seed=9)
    framing = prepared(as_file, large).sent_bytes - len(large)
    made = prepared(resized, large).sent_bytes
    table = compile_table([entry(as_file, framing), entry(resized, made)], columns_for([20]))
    for photograph, sent_as in ((large, "jpeg-95"), (small, "file")):
        sent = prepared(resized, photograph)
        assert sent.sent_as == sent_as
        now = Conditions(Link(1e6, 1e6, 0.01), image.read_facts(photograph))
        plan = predict(table, now)[1]
        assert plan.sent_bytes == pytest.approx(sent.sent_bytes, abs=5)  # digits of a length


def test_what_is_prepared_can_be_sent_again_after_a_failure(runner, edge, photograph, expected):
    job = Job(photograph, StageTimes())
    prepared = runner.prepare(ROWS["split"], job)
    edge.failure = RemoteTimeoutError("too late")
    with pytest.raises(RemoteTimeoutError):
        runner.send(prepared, job, timeout_s=5.0)
    edge.failure = None
    times = StageTimes()
    result = runner.send(prepared, job.again(times), timeout_s=5.0)
    np.testing.assert_allclose(result.outputs["logits"], expected, atol=1e-4)
    assert times.seconds.keys() == REMOTE
