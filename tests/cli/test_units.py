import pytest
import typer

from isthmus.cli.units import checked_server, milliseconds, ratio_from_text, seconds_from_text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("80ms", 0.08),
        ("80 ms", 0.08),
        (" 1.5s ", 1.5),
        ("250us", 0.00025),
        (".5s", 0.5),
        ("2.s", 2.0),
        ("007ms", 0.007),
    ],
)
def test_durations(text, seconds):
    assert seconds_from_text(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "80", "ms", "0ms", "0.0s", "-5ms", "+5ms", "1e3ms", "80 m s", "80min", "80MS", "1,5s",
     "nan s", "inf s", "٣ms", "1ms 2ms", "."],
)  # fmt: skip
def test_what_is_no_duration_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="such as 80ms"):
        seconds_from_text(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.00 ms"),
        (0.00012, "0.12 ms"),
        (0.00999, "10.0 ms"),
        (0.0999, "99.9 ms"),
        (0.1, "100 ms"),
        (12.3456, "12346 ms"),
    ],
)
def test_milliseconds(seconds, text):
    assert milliseconds(seconds) == text


@pytest.mark.parametrize("text", ["", "101%", "1.1", "-3%", "3 per cent", "%", "nan"])
def test_what_is_no_share_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="3%"):
        ratio_from_text(text)


def test_an_address_is_checked_before_any_work():
    assert checked_server("http://edge:8000") == "http://edge:8000"
    assert checked_server(None) is None
    with pytest.raises(typer.BadParameter, match="http://host:port"):
        checked_server("edge:8000")


def test_nothing_and_all_are_shares():
    assert [ratio_from_text(text) for text in ("0%", "0", "100%", "1")] == [0, 0, 1, 1]
