import pytest

from isthmus.cli import infer
from isthmus.cli.rules import rules_from_options
from isthmus.device import client
from isthmus.loading import bundle
from isthmus.types.plan import Rules
from isthmus.types.power import Power


class Opened:
    """A bundle of nothing, and a device that has no photograph to look at."""

    variants: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("fastest", "objective"), [(False, "most_accurate"), (True, "least_latency")]
)
def test_least_latency_is_asked_for_by_name(monkeypatch, tmp_path, fastest, objective):
    asked = []

    class Device:
        def __init__(self, opened, *, server, rules, threads):
            asked.append(rules)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(bundle, "open_bundle", lambda _: Opened())
    monkeypatch.setattr(client, "Device", Device)
    infer.command(tmp_path, [], fastest=fastest)
    assert asked == [Rules(objective)]


def test_the_fastest_plan_takes_no_deadline(tmp_path):
    with pytest.raises(infer.typer.BadParameter, match="takes no deadline"):
        infer.command(tmp_path, [], deadline="80ms", fastest=True)


def test_all_rules_reach_the_device(monkeypatch, tmp_path):
    asked = []

    class Device:
        def __init__(self, opened, *, server, rules, threads):
            asked.append(rules)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(bundle, "open_bundle", lambda _: Opened())
    monkeypatch.setattr(client, "Device", Device)
    infer.command(tmp_path, [], deadline="80ms", mode="prefer_edge", max_sent_bytes=9)
    assert asked == [Rules(deadline_s=0.08, mode="prefer_edge", max_sent_bytes=9)]
    with pytest.raises(infer.typer.BadParameter, match="no mode"):
        infer.command(tmp_path, [], mode="cloud")


def test_objective_power_and_hedge_become_rules():
    rules = rules_from_options(
        deadline="80ms", variant=None, no_pixels_leave=False, fastest=False, mode="auto",
        max_sent_bytes=None, objective="least_energy",
        power="compute=2.5, send=1,wait=0,receive=0.5", hedge="5%",
    )  # fmt: skip
    assert rules == Rules(
        "least_energy", 0.08, hedge_above_ratio=0.05,
        power=Power(2.5, 1.0, 0.0, 0.5, source="given by --power"),
    )  # fmt: skip
