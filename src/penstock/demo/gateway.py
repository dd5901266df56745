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


def gateway_options(place: Place, wanted: int) -> GatewayOptions:
    """Whoever is on this machine may read and write: the day is made up, and nobody else reaches the port."""
    return GatewayOptions(
        host=HOST,
        port=free_port(wanted),
        auth="none",
        ledger_file=place.gateway_ledger,
        key=KEY,
        drain_seconds=DRAIN_SECONDS,
    )


def free_port(wanted: int) -> int:
    """The wanted one, or one of those behind it, or any."""
    for port in (*range(wanted, min(wanted + PORTS_TRIED, 65_536)), 0):
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind((HOST, port))
            except OSError:
                continue
            found: int = one.getsockname()[1]
            return found
    return wanted  # the gateway will say why it cannot have it


class Entrance:
    """Where events come in over HTTP, and how somebody tries it."""

    def __init__(self, options: GatewayOptions, wanted: int, number: int) -> None:
        self.url = f"http://{options.host}:{options.port}"
        self.is_elsewhere = wanted not in (0, options.port)
        self._wanted = wanted
        self._event_id = f"try-{number}"

    @property
    def remark(self) -> str:
        """Empty where the port is the wanted one."""
        return f"Port {self._wanted} is taken: the gateway listens at {self.url}." if self.is_elsewhere else ""

    @property
    def commands(self) -> list[str]:
        """A review that breaks the policy, and what became of it."""
        review = f'{{"event_id":"{self._event_id}","review_id":"r1","text":"Buy at www.x.example"}}'
        return [
            f"curl -H content-type:application/json {self.url}/v1/events \\",
            f"  -d '{review}'",
            f"curl '{self.url}/v1/events/{self._event_id}?wait=5s'",
        ]
