import dataclasses
import math

import pytest

from isthmus.building.build import build_bundle
from isthmus.errors import BundleError
from isthmus.estimation.regression import LayerRegression, LinearModel
from isthmus.estimation.site_model import Loading, SiteModel
from isthmus.loading.bundle import Candidate, open_bundle, save_profile
from isthmus.loading.onnx_file import load_graph
from isthmus.planning.columns import columns_for
from isthmus.planning.plan_table import PlanEntry, compile_table, link_terms
from isthmus.profiling.predicted_table import predict_table
from isthmus.runtime.image_codecs import IMAGE_CODECS
from isthmus.types.plan import STAGES, PlanRow

LINK = {"uplink_bytes_per_s": 1e6, "downlink_bytes_per_s": 1e7, "rtt_s": 0.01}


def site(unit_s, **changes):
    """A site where every unit takes the same time."""
    line = LayerRegression("work", {}, LinearModel((unit_s, 0.0, 0.0, 0.0)))
    return SiteModel("there", line, **{"is_fused": False, "spread_ratio": 0.1, **changes})


@pytest.fixture(scope="module")
def bundle(small_model_path, photograph_files, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundles") / "app.isthmus"
    build_bundle({"small": small_model_path}, path, calibration=photograph_files)
    return open_bundle(path)


@pytest.fixture(scope="module")
def graphs(bundle):
    return {"small": load_graph(bundle.head_path("small", ""), name="small")}


@pytest.fixture(scope="module")
def profiled(bundle, tmp_path_factory):
    """The bundle with a made-up table: 60 ms here, 6 ms there, 4 ms to decode, 2 ms to encode."""
    entries = []
    for candidate in bundle.candidates:
        row = candidate.row
        terms = {"decode": {"device": 0.004}}
        if row.family in ("local", "split"):
            terms["head"] = {"device": 0.060 if row.is_local else 0.03}
        if not row.is_local:
            terms |= {"encode": {"device": 0.002}, "server": {"server": 0.006}}
        link = link_terms(row.family, sent_bytes=1e4, received_bytes=1e3)
        entries.append(PlanEntry(row, terms | link, residual_s=0.001, sent_bytes=1e4))
    import shutil

    path = tmp_path_factory.mktemp("profiled") / "app.isthmus"
    shutil.copytree(bundle.path, path)
    save_profile(path, compile_table(entries, columns_for([20])), {"link": LINK})
    return open_bundle(path)


def seconds(table, row, stage, column="device"):
    return table.coefficients[row, STAGES.index(stage), table.columns.index(column)]


def test_heads_are_predicted_and_the_input_pipeline_scaled_alike(profiled, graphs):
    predicted = predict_table(profiled, graphs, site(0.02))
    assert (predicted.device, predicted.server) == ("there", "")
    table = predicted.table
    count = len(graphs["small"].layers)
    for index, row in enumerate(table.rows):
        assert seconds(table, index, "decode") == pytest.approx(0.004 * (0.02 * count) / 0.06)
        if not row.is_local:
            assert seconds(table, index, "server", "server") == 0.006
        if row.is_local:
            assert seconds(table, index, "head") == pytest.approx(0.02 * count)
            spread_s = math.hypot(0.001, 0.1 * 0.02 * count)
            assert table.residual_s[index] == pytest.approx(spread_s)
        if row.family == "split":
            layers = round(seconds(table, index, "head") / 0.02)
            assert 0 < layers < count
    assert (table.sent_bytes == profiled.table.sent_bytes).all()
    assert profiled.table.residual_s[0] == 0.001


def test_with_a_model_of_the_server_head_and_tail_are_the_network(profiled, graphs):
    table = predict_table(profiled, graphs, site(0.02), server=site(0.001)).table
    count = len(graphs["small"].layers)
    for index, row in enumerate(table.rows):
        here = seconds(table, index, "head") / 0.02
        there = seconds(table, index, "server", "server") / 0.001
        assert here + there == pytest.approx(count), row.label


def test_an_unprofiled_bundle_needs_a_model_of_the_server(bundle, graphs):
    with pytest.raises(BundleError, match="--server-model"):
        predict_table(bundle, graphs, site(0.02))
    predicted = predict_table(bundle, graphs, site(0.02), server=site(0.001))
    assert len(predicted.table.rows) == len(bundle.candidates)
    assert any("counted as nothing" in warning for warning in predicted.warnings)
    raw = {
        row.codec: sent
        for row, sent in zip(predicted.table.rows, predicted.table.sent_bytes, strict=True)
        if row.family == "tensor"
    }
    assert raw["u8"] == 400 + 3 * 16 * 16


def test_loading_counts_where_asked_for(profiled, graphs):
    slow = site(0.02, loading=Loading(5.0, 0.0))
    cold = predict_table(profiled, graphs, slow, is_loaded=False).table
    warm = predict_table(profiled, graphs, slow).table
    local = next(i for i, row in enumerate(cold.rows) if row.is_local)
    assert seconds(cold, local, "head") - seconds(warm, local, "head") == pytest.approx(5.0)


def test_limits_and_an_unknown_error_are_told(profiled, graphs):
    odd = site(0.02, limits=("made up",), spread_ratio=0.0, largest_input_px=8)
    warnings = predict_table(profiled, graphs, odd).warnings
    assert "made up" in warnings
    assert any("takes 16" in warning for warning in warnings)
    assert any("error is unknown" in warning for warning in warnings)


def test_resized_photographs_send_what_their_codec_makes_of_them(bundle, graphs):
    sizes = {}
    for codec in IMAGE_CODECS:
        row = PlanRow("small", "resized", codec=codec, unit="small.image", has_pixels=True)
        asked = dataclasses.replace(bundle, candidates=(Candidate(row),))
        table = predict_table(asked, graphs, site(0.02), server=site(0.002)).table
        sizes[codec] = table.sent_bytes[0]
    assert sorted(sizes, key=sizes.get) == ["jpeg-75", "jpeg-85", "jpeg-95", "webp-lossless"]
    assert sizes["webp-lossless"] == pytest.approx(400 + 1.53 * 16 * 16)
