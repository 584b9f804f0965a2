"""One direction of a link: when a packet that arrives now comes out at the other end. Owns no packet and no clock."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Line:
    """A line sends one packet after the other, and drops what would have to wait behind more than `queue_bytes`.

    Attributes:
        delay_seconds: from a packet's last byte on the line until it is there.
        free_at: when the line has sent all that it accepted.
    """

    bytes_per_second: float
    delay_seconds: float
    queue_bytes: int
    free_at: float = 0.0
    dropped: int = 0

    def accept(self, size: int, now: float) -> float | None:
        """Return when a packet is there; None: it is dropped, as a full router does. No checkpoint, no clock of its own."""
        begins = max(now, self.free_at)
        if (begins - now) * self.bytes_per_second > self.queue_bytes:
            self.dropped += 1
            return None
        self.free_at = begins + size / self.bytes_per_second
        return self.free_at + self.delay_seconds
