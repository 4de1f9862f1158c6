"""What reading manifests brought.

Invariant: each sentence of damage stands once, however often it was met.
"""

from __future__ import annotations

import logging

import msgspec

from casinductor.store.index.manifests import ManifestId

logger = logging.getLogger("casinductor")


class Refreshed(msgspec.Struct):
    """What reading manifests brought: how many were ``listed`` and how many ``vanished`` under the
    reader's eyes, ``bytes_read``, and ``damage`` in sentences with the manifests ``unread`` for it;
    ``untrusted``: how many are not believed, by reason.
    """

    listed: int = 0
    vanished: int = 0
    bytes_read: int = 0
    damage: list[str] = msgspec.field(default_factory=list)
    unread: list[ManifestId] = msgspec.field(default_factory=list)
    untrusted: dict[str, int] = msgspec.field(default_factory=dict)

    def add(self, other: Refreshed) -> Refreshed:
        """Count ``other`` in, each sentence once; returns this one. ``listed`` is the newer."""
        self.listed, self.untrusted = other.listed, other.untrusted
        self.vanished += other.vanished
        self.bytes_read += other.bytes_read
        for sentence in other.damage:
            self.note_damage(sentence)
        self.unread += [name for name in other.unread if name not in self.unread]
        return self

    def note_damage(self, sentence: str) -> None:
        if sentence not in self.damage:
            self.damage.append(sentence)

    def log(self) -> Refreshed:
        """Warn of the damage, for callers whose own report has no place for it."""
        for sentence in self.damage:
            logger.warning("%s", sentence)
        return self
