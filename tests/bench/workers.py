"""What a second worker brings: the gateway's gain from one to two, against nginx's own.

Nothing is kept on a core here: on two cores, load and backend share them with what is measured. So both
gains fall short of two, the cheaper proxy's by more: it leaves the load less of the machine. What a request
costs in processor time with two workers says the same of machines that have cores to spare.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench import peers
from tests.bench.figure import Figure, Result
from tests.bench.gateway import CHAT, a_gateway
from tests.bench.peers import Peer
from tests.bench.proxying import _CHAT, MANY, ROUNDS, _cost, _script

GAIN: Final = Figure(
    "gateway", "gain from one worker to two", "x", "higher", against="nginx's own gain", aim=0.9
)
COST: Final = Figure(
    "gateway", "processor time of a chat request, two workers", "µs", "lower", against="one worker", aim=1.2
)
FIGURES: Final = (GAIN, COST)


def measure() -> Iterator[Result]:
    peers.install_tools()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        backend = stack.enter_context(peers.backend(folder))
        of_nginx = [stack.enter_context(peers.nginx(folder, backend.port, workers=each)) for each in (1, 2)]
        ours = []
        for each in (1, 2):
            gateway, _ = stack.enter_context(
                a_gateway(backend.port, variants=1, like=CHAT, keyed=True, workers=each)
            )
            script = _script(folder, f"workers{each}", gateway, _CHAT, "application/json")
            ours.append((Peer("gateway", gateway.process.pid, gateway.port), script))
        pairs = [*ours, *((peer, ours[0][1]) for peer in of_nginx)]
        for peer, script in pairs:
            _cost(peer, script, MANY)
        rounds = [[_cost(peer, script, MANY) for peer, script in pairs] for _ in range(ROUNDS)]
    rates = [median(each[place][0] for each in rounds) for place in range(len(pairs))]
    yield Result(GAIN, rates[1] / rates[0], rates[3] / rates[2])
    yield Result(COST, *(median(each[place][1] for each in rounds) for place in (1, 0)))
