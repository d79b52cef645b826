import dataclasses
import itertools

import numpy as np
import pytest

from isthmus.planning.columns import columns_for, layout_of, numbers_of
from isthmus.profiling.input_costs import (
    Sample,
    decode_terms,
    fit_errors,
    predicted_s,
    resize_terms,
)
from isthmus.types.conditions import Conditions, ImageFacts, dct_scale
from isthmus.types.link import Link

SIZES = [(640, 480), (960, 720), (1280, 960), (1600, 900), (2400, 1800), (3264, 2448), (4096, 3000)]
JPEGS = [
    ImageFacts("jpeg", width, height, int(width * height * bits / 8))
    for (width, height), bits in itertools.product(SIZES, (0.7, 2.1))
]
PNGS = [
    ImageFacts("png", w, h, int(w * h * ratio))
    for (w, h), ratio in zip(SIZES, range(1, 8), strict=True)
]
CONSTANT, PER_BYTE, PER_SAMPLE, PER_DECODED = 4e-4, 6e-9, 2e-9, 9e-9
OTHER_BYTE, OTHER_PIXEL = 3e-9, 1.5e-8
TARGETS = (256, 512)


def truth(facts, side_px):
    if facts.format == "jpeg":
        return (
            CONSTANT
            + PER_BYTE * facts.file_bytes
            + PER_SAMPLE * facts.samples
            + PER_DECODED * facts.decoded_pixels(side_px)
        )
    return CONSTANT + OTHER_BYTE * facts.file_bytes + OTHER_PIXEL * facts.pixels


@pytest.fixture(params=["device", "server"])
def site(request):
    return request.param


def predicted(terms, facts, targets):
    """What the table's columns make of the terms."""
    columns = columns_for(targets)
    layout = layout_of(columns)
    numbers = numbers_of(Conditions(Link(1e6, 1e6, 0.01), facts), layout.decode_targets)
    x = {
        name: numbers.values[base] * numbers.features[feature]
        for name, (base, feature) in zip(columns, layout.sources, strict=True)
    }
    return sum(value * x[name] for name, value in terms.items())


def test_planted_costs_of_decoding_are_recovered(site):
    samples = {side_px: [Sample(f, truth(f, side_px)) for f in JPEGS + PNGS] for side_px in TARGETS}
    found = decode_terms(site, samples)
    assert found.keys() == set(TARGETS)
    for side_px, terms in found.items():
        assert terms == pytest.approx(
            {
                site: CONSTANT,
                f"{site}.jpeg_bytes": PER_BYTE,
                f"{site}.jpeg_samples": PER_SAMPLE,
                f"{site}.jpeg_decoded_px.{side_px}": PER_DECODED,
                f"{site}.other_bytes": OTHER_BYTE,
                f"{site}.other_pixels": OTHER_PIXEL,
            },
            rel=1e-6,
        )


def test_unseen_images_are_predicted_across_the_step_of_the_dct_scale():
    samples = {256: [Sample(f, truth(f, 256)) for f in JPEGS]}
    terms = decode_terms("device", samples)[256]
    below, above = ImageFacts("jpeg", 2700, 2047, 900_000), ImageFacts("jpeg", 2700, 2048, 900_000)
    assert (dct_scale(2700, 2047, 256), dct_scale(2700, 2048, 256)) == (2, 4)
    for facts in (below, above):
        assert predicted(terms, facts, [256]) == pytest.approx(truth(facts, 256), rel=1e-6)
    assert predicted(terms, above, [256]) < predicted(terms, below, [256])  # a step down


def test_noise_of_a_tenth_moves_predictions_by_less():
    rng = np.random.default_rng(1)
    noisy = [Sample(f, truth(f, 256) * rng.uniform(0.9, 1.1)) for f in JPEGS for _ in range(3)]
    terms = decode_terms("device", {256: noisy})[256]
    errors = [predicted(terms, f, [256]) / truth(f, 256) - 1 for f in JPEGS]
    assert np.abs(errors).max() < 0.1
    assert all(value >= 0 for value in terms.values())


def test_planted_costs_of_resizing_are_recovered(site):
    def resize_s(facts):
        pixels = facts.decoded_pixels(256)
        return 2e-4 + 3e-9 * pixels

    terms = resize_terms(site, 256, [Sample(f, resize_s(f)) for f in JPEGS + PNGS])
    assert terms[site] == pytest.approx(2e-4)
    assert terms[f"{site}.jpeg_decoded_px.256"] == pytest.approx(3e-9)
    png = PNGS[-1]
    assert predicted(terms, png, [256]) == pytest.approx(resize_s(png), rel=0.05)


def test_without_other_formats_they_cost_the_constant():
    terms = decode_terms("device", {256: [Sample(f, truth(f, 256)) for f in JPEGS]})[256]
    assert predicted(terms, PNGS[0], [256]) == pytest.approx(CONSTANT)
    terms = resize_terms("device", 256, [Sample(f, 1e-3) for f in JPEGS])
    assert predicted(terms, PNGS[0], [256]) == pytest.approx(1e-3)


def test_progressive_jpegs_cost_more_than_baseline_ones(site):
    progressive = [dataclasses.replace(f, is_progressive=True) for f in JPEGS]
    samples = [
        *(Sample(f, truth(f, 256)) for f in JPEGS),
        *(Sample(f, truth(f, 256) + 2e-8 * f.file_bytes + 1e-8 * f.samples) for f in progressive),
    ]
    terms = decode_terms(site, {256: samples})[256]
    assert terms[f"{site}.progressive_bytes"] == pytest.approx(2e-8)
    assert terms[f"{site}.progressive_samples"] == pytest.approx(1e-8)
    for facts in (JPEGS[3], progressive[3]):
        (sample,) = (s for s in samples if s.facts == facts)
        assert predicted(terms, facts, [256]) == pytest.approx(sample.seconds)


def test_a_server_that_tells_no_times_costs_almost_nothing():
    terms = decode_terms("server", {256: [Sample(f, 1e-9) for f in JPEGS + PNGS]})[256]
    assert all(0 <= predicted(terms, f, [256]) < 1e-6 for f in JPEGS + PNGS)


def test_webps_have_lines_of_their_own(site):
    def beyond_s(facts, byte_s, pixel_s):
        return CONSTANT + byte_s * facts.file_bytes + pixel_s * facts.pixels

    lines = {"webp": (5e-8, 6e-9), "webp-lossless": (4e-9, 1.2e-8)}
    samples = [Sample(f, truth(f, 256)) for f in (*JPEGS, *PNGS)]
    for name, line in lines.items():
        webps = [dataclasses.replace(f, format=name) for f in PNGS]
        samples += [Sample(f, beyond_s(f, *line)) for f in webps]
    terms = decode_terms(site, {256: samples})[256]
    for name, line in (*lines.items(), ("other", (OTHER_BYTE, OTHER_PIXEL))):
        prefix = f"{site}.{name.replace('-', '_')}"
        found = terms[f"{prefix}_bytes"], terms[f"{prefix}_pixels"]
        assert found == pytest.approx(line)
    for sample in samples:
        assert predicted_s(terms, sample.facts) == pytest.approx(sample.seconds)


def test_the_error_of_a_fit_is_told_by_format_each_image_by_its_median():
    progressive = dataclasses.replace(JPEGS[0], is_progressive=True)
    terms = {"device": 1e-3}
    samples = [
        *(Sample(JPEGS[0], seconds) for seconds in (0.9e-3, 1e-3, 50e-3)),
        *(Sample(JPEGS[1], 2e-3) for _ in range(3)),
        Sample(progressive, 0.5e-3),
    ]
    errors = fit_errors([(terms, samples), (terms, [Sample(PNGS[0], 1e-3)])])
    assert errors.keys() == {"jpeg", "progressive", "png"}
    assert errors["jpeg"].images == 2
    assert errors["jpeg"].median_ratio == pytest.approx(0.25)
    assert errors["jpeg"].p95_ratio == pytest.approx(0.475)
    assert errors["progressive"].median_ratio == pytest.approx(1.0)
    assert errors["png"].p95_ratio == pytest.approx(0.0)
