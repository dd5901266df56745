"""Signatures of Standard Webhooks 1.0.0: who receives a message can tell who sent it, when, and that nobody changed it.

message → [signing] → post

Secrets are the standard's `whsec_` + base64 of 24 to 64 bytes. While a secret is changed there are two: both sign, and the
receiver takes either.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook

from penstock.errors import SettingsError

PREFIX = "whsec_"
LEAST_BYTES, MOST_BYTES = 24, 64
MOST_SECRETS = 2


def new_secret() -> str:
    """32 random bytes, as the standard writes them."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


class Signer:
    """Signs with every secret that is in force, the newest first."""

    def __init__(self, given: Sequence[str], setting: str) -> None:
        if not given:
            raise SettingsError(
                f"{setting} is empty: a webhook without signature can be forged; `penstock webhook secret` makes one"
            )
        if len(given) > MOST_SECRETS:
            raise SettingsError(
                f"{setting} has {len(given)} secrets: at most {MOST_SECRETS}, the new one and the old one"
            )
        self._webhooks = [Webhook(_bytes(one, setting)) for one in given]

    def headers(self, message_id: str, body: str, now: datetime) -> dict[str, str]:
        """What goes with the body. The time is this attempt's, the id is the message's over all attempts."""
        at = now.astimezone(UTC)  # the library takes another zone's clock for UTC's
        signatures = (webhook.sign(message_id, at, body) for webhook in self._webhooks)
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(signatures),
        }


def _bytes(secret: str, setting: str) -> bytes:
    """The text of the error never holds the secret."""
    if not secret.startswith(PREFIX):
        raise SettingsError(f"{setting}: a secret begins with {PREFIX}; `penstock webhook secret` makes one")
    try:
        found = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise SettingsError(f"{setting}: what follows {PREFIX} is no base64; was it cut off?") from None
    if not LEAST_BYTES <= len(found) <= MOST_BYTES:
        raise SettingsError(f"{setting}: a secret has {LEAST_BYTES} to {MOST_BYTES} bytes, this one {len(found)}")
    return found
