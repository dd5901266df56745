"""Bytes to the user's models. `base` says the contract; give a task `decode=` for another format."""

from penstock.codecs.base import Undecodable, decode, event_id_of, passthrough
from penstock.codecs.mapping import FieldMapping
from penstock.codecs.registry import from_registry

__all__ = ["FieldMapping", "Undecodable", "decode", "event_id_of", "from_registry", "passthrough"]
