"""Running the server: one process, or several that share a socket, the live state and the figures."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import uvicorn
from uvicorn.supervisors import Multiprocess

from endcap.errors import InputError
from endcap.release import live
from endcap.serve.app import SETTINGS_VARIABLE, create_app
from endcap.serve.pauses import leave_alone, shorten_pauses
from endcap.serve.protocol import HEAD_BYTES, BoundedProtocol
from endcap.serve.service import ServerSettings, read_keys
from endcap.serve.serving import Serving
from endcap.serve.surfaces import read_surfaces
from endcap.serve.telemetry import SHARED_FOLDER

BACKLOG = 2048
STOP_WITHIN_S = 10
WORKER_SILENT_S = 120  # a worker that maps a large release does not answer for a while

Announce = Callable[[str], None]


def run(settings: ServerSettings, *, host: str, port: int, workers: int, announce: Announce) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight and stop.

    Args:
        port: 0 takes a free one; announce: called with the address when requests are answered.

    Raises:
        InputError: if nothing can be served, or the port is taken.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda *_: sys.exit(0))  # uvicorn raises it again once it has finished
    listening = _listen(host, port)
    address = f"http://{_shown(host)}:{listening.getsockname()[1]}"
    if workers == 1:
        shorten_pauses()
        app = create_app(settings)
        leave_alone()
        _AnnouncingServer(_config(app, settings), address, announce).run([listening])
    else:
        _run_several(settings, listening, workers, address, announce)


class _AnnouncingServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, address: str, announce: Announce) -> None:
        super().__init__(config)
        self._address, self._announce = address, announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce(self._address)


def _run_several(
    settings: ServerSettings, listening: socket.socket, workers: int, address: str, announce: Announce
) -> None:
    """Check everything once, here, so that wrong input is told once; then let workers open it for themselves."""
    read_keys(settings.api_key_file)
    surfaces = read_surfaces(None if settings.surfaces is None else Path(settings.surfaces))
    Serving.open(Path(settings.releases) / live(Path(settings.releases)), surfaces)
    with tempfile.TemporaryDirectory(prefix="endcap-metrics-") as figures:
        os.environ[SHARED_FOLDER] = figures
        os.environ[SETTINGS_VARIABLE] = msgspec.json.encode(settings).decode()
        config = _config("endcap.serve.app:from_environment", settings, workers=workers)
        listening.listen(BACKLOG)  # who comes before the workers are up waits
        announce(address)
        Multiprocess(config, sockets=[listening]).run()


def _config(app: object, settings: ServerSettings, workers: int = 1) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        factory=isinstance(app, str),
        workers=workers,
        log_level="warning",
        access_log=False,
        server_header=False,
        http=BoundedProtocol,
        ws="none",
        h11_max_incomplete_event_size=HEAD_BYTES,
        proxy_headers=settings.trusted_proxies is not None,
        forwarded_allow_ips=settings.trusted_proxies,
        backlog=BACKLOG,
        timeout_graceful_shutdown=STOP_WITHIN_S,
        timeout_worker_healthcheck=WORKER_SILENT_S,
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle off (44 ms an answer, else) only for sockets that say TCP
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError, TypeError, ValueError) as error:  # the last two: no host can have such a name
        listening.close()
        raise InputError(f"cannot listen at {host}:{port} ({error}); give another --host or --port") from None
    listening.set_inheritable(True)
    return listening


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
