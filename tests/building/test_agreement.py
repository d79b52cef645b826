import numpy as np
import pytest

from isthmus.building.agreement import AgreementCounter, Loss
from isthmus.building.coding import CodingCost
from isthmus.building.crops import Crops
from isthmus.building.ledger import Ledger
from isthmus.building.selection import Tolerance, select
from isthmus.errors import ImageError
from isthmus.loading.onnx_file import load_graph, load_variant, read_model
from isthmus.loading.split import split_model
from isthmus.runtime import codecs, image
from isthmus.runtime.session import Session
from isthmus.types.plan import PlanRow
from isthmus.types.proportion import Proportion


class Parts:
    """A small network, its cut at ``x`` and a counter for it."""

    def __init__(self, path, workers=2):
        self.path = path
        self.variant = load_variant(path, name="net")
        self.graph = load_graph(path, name="net")
        self.model = read_model(path)
        self.split = split_model(self.model, self.graph, ["x"])
        self.u8 = Loss("u8", self.split.cut.id, ("x",))
        self.workers = workers

    def counter(self, workers=2):
        return AgreementCounter(self.variant, self.model, self.graph, [self.split], workers=workers)

    def row(self, codec):
        lossless = codecs.CODECS[codec].is_lossless
        return PlanRow(
            "net", "split", ("x",), cut_id=self.split.cut.id, codec=codec, is_lossless=lossless
        )


@pytest.fixture
def parts(small_network, tmp_path):
    def make(**options):
        path = tmp_path / "net.onnx"
        path.write_bytes(small_network(**options).SerializeToString())
        return Parts(path)

    return make


@pytest.fixture
def crops(photograph_files):
    return Crops(photograph_files)


def test_the_count_is_that_of_running_everything_by_hand(parts, crops):
    made = parts(outlier=60.0)
    pipeline = made.variant.pipeline
    agreed = 0
    with (
        Session(made.path) as whole,
        Session(made.split.head.SerializeToString()) as head,
        Session(made.split.tail.SerializeToString()) as tail,
    ):
        for k in range(30):
            pixels = image.fit(crops.image(k), pipeline)
            feeds = {"image": image.normalise(image.planar(pixels, pipeline), pipeline)}
            x = head.run(feeds)["x"]
            arrived = codecs.decode(codecs.CODECS["u8"].encode(x), limit_bytes=x.nbytes)
            answers = whole.run(feeds)["logits"], tail.run({"x": arrived})["logits"]
            agreed += np.argmax(answers[0]) == np.argmax(answers[1])
    with made.counter() as counter:
        count = counter.count([made.u8], crops, images=30)[made.u8]
    assert count == Proportion(int(agreed), 30)
    assert 0 < agreed < 30  # or this tells nothing


def test_threads_do_not_change_the_count(parts, crops):
    made = parts(outlier=60.0)
    found = []
    for workers in (1, 3):
        with made.counter(workers) as counter:
            found.append(counter.count([made.u8, Loss("jpeg-75")], crops, images=60))
    assert found[0] == found[1]


def test_what_has_failed_is_given_up_and_what_has_not_goes_on(parts, crops):
    made = parts(outlier=1e5)
    fine = Loss("u8c", made.split.cut.id, ("x",))
    with made.counter() as counter:
        found = counter.count([made.u8, fine], crops, images=120, may_differ=20)
    assert found[made.u8].of == 50  # one block
    assert found[fine].of == 120
    with made.counter() as counter:
        assert counter.count([made.u8], crops, images=120)[made.u8].of == 120


def test_what_cannot_be_encoded_has_not_agreed(parts, crops):
    made = parts(outlier=1e5)
    half = Loss("fp16", made.split.cut.id, ("x",))
    with made.counter() as counter:
        assert counter.count([half], crops, images=10)[half] == Proportion(0, 10)


def test_answers_are_told_one_by_one(parts, crops):
    made = parts(outlier=60.0)
    half = Loss("fp16", made.split.cut.id, ("x",))
    with made.counter() as counter:
        found = [counter.answers([made.u8, half], crops, k) for k in range(30)]
        count = counter.count([made.u8], crops, images=30)[made.u8]
    assert sum(answers.agree(made.u8) for answers in found) == count.counted
    for answers in found:
        behind = answers.behind[made.u8]
        assert behind is not None
        assert answers.agree(made.u8) == (behind["logits"] == answers.whole["logits"])


def test_an_answer_that_nothing_could_be_encoded_for_is_none(parts, crops):
    made = parts(outlier=1e5)
    half = Loss("fp16", made.split.cut.id, ("x",))
    with made.counter() as counter:
        answers = counter.answers([half], crops, 0)
    assert answers.behind[half] is None
    assert not answers.agree(half)


def test_a_second_answer_that_changes_counts(parts, crops):
    made = parts(two_answers=True, outlier=0.0)
    made.split = split_model(made.model, made.graph, ["y"])
    loss = Loss("u8", made.split.cut.id, ("y",))
    with made.counter() as counter:
        assert counter.count([loss], crops, images=5)[loss].of == 5


def test_a_photograph_that_is_none_is_named(parts, tmp_path):
    made = parts()
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"nothing")
    with made.counter() as counter, pytest.raises(ImageError, match=r"broken\.jpg"):
        counter.count([made.u8], Crops([broken]), images=60)


@pytest.mark.parametrize(
    ("count", "accepted"),
    [
        (Proportion(1000, 1000), True),
        (Proportion(995, 1000), True),
        (Proportion(994, 1000), False),
        (Proportion(999, 999), False),  # not all of them
        (Proportion(0, 0), False),
    ],
)
def test_half_a_percent_of_a_thousand_are_five(count, accepted):
    tolerance = Tolerance()
    assert tolerance.may_differ == 5
    assert tolerance.accepts(count) == accepted


def test_no_images_accept_nothing():
    assert not Tolerance(images=0).accepts(Proportion(0, 0))


@pytest.fixture
def known_costs(monkeypatch):
    """No clock decides which codecs are worth having."""
    sizes = {"raw": 2048, "fp16": 1100, "fp16+zstd": 1000, "u8c": 800, "u8": 600, "u8+zstd": 580}
    costs = {codec: CodingCost(size, i * 1e-9) for i, (codec, size) in enumerate(sizes.items())}
    monkeypatch.setattr("isthmus.building.selection.coding_costs", lambda _: costs)


@pytest.mark.usefixtures("known_costs")
def test_only_what_the_ledger_lacks_is_counted(parts, crops, monkeypatch):
    made = parts()
    ledger = Ledger()
    asked = []
    count = AgreementCounter.count

    def counted(self, losses, *rest, **options):
        asked.append(sorted(loss.codec for loss in losses))
        return count(self, losses, *rest, **options)

    monkeypatch.setattr(AgreementCounter, "count", counted)
    tolerance = Tolerance(ratio=0.5, images=20, ledger=ledger)
    with made.counter() as counter:
        first = select([made.row("raw"), made.row("u8")], counter, crops, tolerance)
        select([made.row("raw"), made.row("u8"), made.row("u8+zstd")], counter, crops, tolerance)
    assert asked == [["u8"]]
    kept, dropped = first
    assert [c.row.codec for c in kept] == ["raw", "u8"]
    assert kept[1].checked == 20
    assert not dropped


@pytest.mark.usefixtures("known_costs")
def test_codecs_that_the_counts_cannot_tell_apart_are_equally_faithful(parts, crops, monkeypatch):
    made = parts()
    found = {
        "u8": Proportion(998, 1000), "u8c": Proportion(1000, 1000), "fp16": Proportion(1000, 1000)
    }  # fmt: skip
    monkeypatch.setattr(
        AgreementCounter, "count", lambda _, losses, *__, **___: {k: found[k.codec] for k in losses}
    )
    rows = [made.row(codec) for codec in ("raw", "fp16", "u8c", "u8")]
    with made.counter() as counter:
        kept, _ = select(rows, counter, crops, Tolerance(ratio=0.3))
        assert [c.row.codec for c in kept] == ["raw", "u8"]
        found["u8"] = Proportion(800, 1000)
        kept, _ = select(rows, counter, crops, Tolerance(ratio=0.3))
        assert {"raw", "u8"} < {c.row.codec for c in kept}  # something more faithful stays, too
