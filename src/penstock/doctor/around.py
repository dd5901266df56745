"""What stands around a worker: the schema registry that its codecs ask, and the port where it is watched.

settings, tasks → [around] → findings
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from penstock.codecs.registry import RegistryCodec
from penstock.doctor.finding import Finding
from penstock.errors import CodecUnavailable, SettingsError
from penstock.ops.server import USUAL_PORT, OpsServer
from penstock.wiring import with_codec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.settings import Settings
    from penstock.task import Task


async def registry(settings: Settings, tasks: Sequence[Task[Any, Any]]) -> list[Finding]:
    """One question to the registry for all tasks that need it; nothing where none does."""
    asking = [task for task in tasks if isinstance(task.decode, RegistryCodec)]
    if not asking:
        return []
    check, names = "registry", ", ".join(task.name for task in asking)
    where = settings.registry.url or "registry.url"
    why = f"Events of {names} cannot be read without their schemas."
    codec = None
    try:
        codec = with_codec(settings, asking[0]).decode
        assert isinstance(codec, RegistryCodec)
        await codec.reach()
    except SettingsError as error:
        return [Finding(check, "fail", str(error), why, "check url, basic_auth and the certificates of [registry]")]
    except CodecUnavailable as error:
        fix = f"check {where} and the network; a worker waits for it and loses nothing"
        return [Finding(check, "fail", str(error), why, fix)]
    finally:
        if isinstance(codec, RegistryCodec):
            await codec.close()
    return [Finding(check, "ok", f"{where} answers; {names} read their schemas there")]


async def ops_port(settings: Settings) -> list[Finding]:
    """Listens there for a moment, as a worker would."""
    check, options = "ops port", settings.ops
    if options.port == "off":
        return [Finding(check, "ok", "off: nobody can read metrics or health of a worker")]
    server = OpsServer(options, {})
    try:
        await server.start()
    except SettingsError as error:
        return [_refused(check, error)]
    finally:
        await server.close()
    port = int(server.url.rpartition(":")[2])
    if options.port == "auto" and port != USUAL_PORT:
        return [Finding(check, "ok", f"{USUAL_PORT} on {options.host} is taken: a worker takes a free one and logs it")]
    shown = "a free one" if options.port == 0 else port
    return [Finding(check, "ok", f"{shown} on {options.host}: metrics and health of a worker")]


def _refused(check: str, error: SettingsError) -> Finding:
    if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE:
        why = "A further worker on this machine would not start; if it is your worker that listens there, all is well."
        return Finding(check, "warn", str(error), why, "-X ops.port=auto, or another port for each worker")
    return Finding(check, "fail", str(error), "A worker would not start.", "set ops.host and ops.port")
