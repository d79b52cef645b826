import threading
from types import SimpleNamespace

from isthmus.device import probes as probes_module
from isthmus.device.beliefs import Beliefs
from isthmus.device.probes import Probes
from isthmus.estimation.link import LinkEstimate
from isthmus.runtime.plan_runner import PlanRunner, Run
from isthmus.runtime.transport import HttpTransport
from isthmus.types.link import Link
from isthmus.types.plan import PlanRow


def test_a_link_in_use_is_looked_at_only_where_its_messages_do_not_tell_the_rate(monkeypatch):
    monkeypatch.setattr(probes_module, "_quiet", lambda seen_at_s: False)
    beliefs = Beliefs(LinkEstimate.from_link(Link(1e6, 1e6, 0.010)))
    table = SimpleNamespace(rows=(PlanRow("net", "file"),))
    probes = Probes(beliefs, threading.Lock(), table, table.rows, [b"photograph"])
    runner = PlanRunner({}, None, None, lambda _: 0.0)
    (link,) = probes.of_server(runner, HttpTransport("http://127.0.0.1:9"))
    for _ in range(3):
        beliefs.learn_exchange(Run({}, sent_bytes=400_000, network_s=0.41), float("inf"))
    assert not link.is_due()
    for _ in range(40):
        beliefs.learn_exchange(Run({}, sent_bytes=200, network_s=0.0102), float("inf"))
    assert link.is_due()
    beliefs.learn_exchange(Run({}, sent_bytes=400_000, network_s=0.41), float("inf"))
    assert not link.is_due()
