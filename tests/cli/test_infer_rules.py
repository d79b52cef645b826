"""What ``isthmus infer`` is told about plans reaches the device as rules."""

import pytest
import typer
from typer.testing import CliRunner

from isthmus.cli import infer
from isthmus.cli.rules import rules_from_options, takes_rules
from isthmus.device import client
from isthmus.loading import bundle
from isthmus.types.plan import Rules
from isthmus.types.power import Power


class Opened:
    """A bundle of one network, and a device that has no photograph to look at."""

    variants = dict.fromkeys(["small"])


@pytest.fixture
def run(monkeypatch):
    """Run the command; return what it printed and the rules of the devices that it opened."""
    asked = []

    class Device:
        is_server_available = True

        def __init__(self, opened, *, server, rules, threads):
            asked.append(rules)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def infer(self, image):
            raise KeyboardInterrupt  # enough is known

    monkeypatch.setattr(bundle, "open_bundle", lambda _: Opened())
    monkeypatch.setattr(client, "Device", Device)
    app = typer.Typer()
    app.command()(infer.command)

    def call(*options):
        asked.clear()
        return CliRunner().invoke(app, ["app.isthmus", __file__, *options]).output, list(asked)

    return call


@pytest.mark.parametrize(
    ("options", "rules"),
    [
        ([], Rules("most_accurate")),
        (["--fastest"], Rules("least_latency")),
        (["--deadline", "80ms", "--mode", "prefer_edge", "--max-sent-bytes", "9"],
         Rules(deadline_s=0.08, mode="prefer_edge", max_sent_bytes=9)),
        (["--allow-other-pixels"], Rules(allow_other_pixels=True)),
        (["--variant", "small", "--no-pixels-leave"],
         Rules(variants=frozenset({"small"}), no_pixels_leave=True)),
        (["--deadline", "1s", "--hedge", "5%"], Rules(deadline_s=1.0, hedge_above_ratio=0.05)),
    ],
)  # fmt: skip
def test_all_rules_reach_the_device(run, options, rules):
    assert run(*options)[1] == [rules]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--deadline", "80ms", "--fastest"], "takes no deadline"),
        (["--deadline", "80"], "80ms or 1.5s"),
        (["--mode", "cloud"], "no mode 'cloud'"),
        (["--objective", "best"], "no objective 'best'"),
        (["--fastest", "--objective", "least_energy"], "and not least_energy"),
        (["--hedge", "5%"], "without a --deadline"),
        (["--power", "compute=1"], "needs watts for each of"),
        (["--variant", "large"], "it has small"),
        (["--mode", "only_edge"], "only_edge needs a --server"),
    ],
)
def test_rules_that_cannot_be_are_named_and_nothing_is_opened(run, options, message):
    output, asked = run(*options)
    assert message in " ".join(output.replace("│", " ").split())
    assert asked == []


def test_objective_power_and_hedge_become_rules():
    rules = rules_from_options(
        deadline="80ms", objective="least_energy", hedge="5%",
        power="compute=2.5, send=1,wait=0,receive=0.5",
    )  # fmt: skip
    assert rules == Rules(
        "least_energy", 0.08, hedge_above_ratio=0.05,
        power=Power(2.5, 1.0, 0.0, 0.5, source="given by --power"),
    )  # fmt: skip


def test_options_of_rules_stand_where_the_command_takes_rules():
    seen = []

    @takes_rules
    def command(*, first: str = "a", rules: Rules, last: str = "z") -> None:
        """Say it."""
        seen.append((first, rules, last))

    app = typer.Typer()
    app.command()(command)
    assert CliRunner().invoke(app, ["--last", "y", "--fastest"]).exit_code == 0
    assert seen == [("a", Rules("least_latency"), "y")]
    told = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    assert told.index("--first") < told.index("--deadline") < told.index("--last")
    assert "Say it." in told
