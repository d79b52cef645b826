"""What the demo prints is whole in a terminal of 80 columns, the first that many will see of it."""

import io

from rich.console import Console

from isthmus.cli.demo import _print_facts, _print_summary, _print_table


def method(p50_ms, plans, **paired):
    return {"p50_ms": p50_ms, "p95_ms": 2 * p50_ms, "sent_bytes": 326_000, "cut_off": 3,
            "plans": plans, **paired}  # fmt: skip


def test_methods_and_plans_keep_their_names():
    split = "net split /blocks.1/project_conv/Conv_output_0 u8+zstd"
    figures = {
        "variant": "net",
        "by_link": {
            "16": {
                "edge_resized": method(2275.0, {"net resized jpeg-85": 21}),
                "isthmus_again": method(71.0, {split: 20, "net local": 1}),
                "isthmus": method(70.0, {split: 20, "net local": 1}),
            },
        },
    }
    for name in ("edge_resized", "isthmus_again"):
        figures["by_link"]["16"][name]["isthmus_paired"] = {
            "median": 0.91, "interval_95": [0.82, 0.97],
        }  # fmt: skip
    out = Console(file=io.StringIO(), width=80)
    figures["geomean_vs_static"] = {"edge_resized": 0.031}
    figures["paired_vs_best_static_of_link"] = {"16": {"median": 0.42, "interval_95": None}}
    _print_table(out, figures, "least latency")
    _print_summary(out, figures)
    lines = out.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any("resize, send a JPEG" in line and "0.91 (0.82 to 0.97)" in line for line in lines)
    fastest, legend = [line for line in lines if "*" in line]
    assert fastest.split() == ["isthmus", "70", "*", "140", "326.0", "3"]
    assert legend.startswith("*: fastest")
    assert "16 Mbit/s" in lines
    chosen = "20 split /blocks.1/project_conv/Conv_output_0 u8+zstd, 1 local"
    assert f"  at 16 Mbit/s  {chosen}" in lines
    assert "  resize, send a JPEG  0.03" in lines
    assert "  at 16 Mbit/s  0.42" in lines


def test_what_is_said_stays_beside_its_name():
    out = Console(file=io.StringIO(), width=40)
    _print_facts(out, {"a": "[b]one[/b] two", "a longer name": "three " * 6})
    assert out.file.getvalue().splitlines() == [
        "a              [b]one[/b] two",
        "a longer name  three three three three",
        "               three three",
    ]
