"""The demo's gateway: on loopback and without keys, on a port that is free, with commands to try it.

place → [gateway] → run, board, summary
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from penstock.web.options import GatewayOptions

if TYPE_CHECKING:
    from penstock.demo.place import Place

HOST = "127.0.0.1"
PORTS_TRIED = 20
KEY = "product_id"
"""As the demo's own producer keys its events, so that an edit or a deletion follows its review."""
DRAIN_SECONDS = 3.0


class Port:
    """The wanted one, or one of those behind it, or any; ours until `close`.

    The gateway takes it seconds later. Until then and ever after a UDP socket of the same number keeps other demos away: it is nobody
    else's, knows no wait after its end, and goes with its process, whatever that dies of.
    """

    def __init__(self, wanted: int) -> None:
        self.wanted = self.number = wanted  # where none is free, the gateway will say why it cannot have it
        self._guard: socket.socket | None = None
        for number in (*range(wanted, min(wanted + PORTS_TRIED, 65_536)), 0):
            if self._take(number):
                break

    def close(self) -> None:
        """Let others have it."""
        if self._guard is not None:
            self._guard.close()

    def _take(self, number: int) -> bool:
        guard = socket.socket(type=socket.SOCK_DGRAM)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, number))
                found: int = probe.getsockname()[1]
                guard.bind((HOST, found))
            except OSError:
                guard.close()
                return False
        self.number, self._guard = found, guard
        return True


def gateway_options(place: Place, port: Port) -> GatewayOptions:
    """Whoever is on this machine may read and write: the day is made up, and nobody else reaches the port."""
    return GatewayOptions(
        host=HOST,
        port=port.number,
        auth="none",
        ledger_file=place.gateway_ledger,
        key=KEY,
        drain_seconds=DRAIN_SECONDS,
    )


class Entrance:
    """Where events come in over HTTP, and how somebody tries it."""

    def __init__(self, port: Port, number: int) -> None:
        self.url = f"http://{HOST}:{port.number}"
        self.remark = ""
        """Where it is not the wanted port."""
        if port.wanted not in (0, port.number):
            self.remark = f"Port {port.wanted} is taken: the gateway listens at {self.url}."
        self._event_id = f"try-{number}"

    @property
    def commands(self) -> list[str]:
        """A review that breaks the policy, what became of it, and where a person sees it all."""
        review = f'{{"event_id":"{self._event_id}","review_id":"r1","text":"Buy at www.x.example"}}'
        return [
            f"curl -H content-type:application/json {self.url}/v1/events \\",
            f"  -d '{review}'",
            f"curl '{self.url}/v1/events/{self._event_id}?wait=5s'",
            f"{self.url}/console/   in a browser: what is decided, and why",
        ]
