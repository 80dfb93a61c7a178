"""What one client, and all of them together, may ask of `s3pot serve`."""

from dataclasses import dataclass, fields

from ray_jobs.serve_messages import Refused


@dataclass(frozen=True, kw_only=True)
class ServeLimits:
    """Bounds that keep one client from harming the others, whatever it sends.

    Attributes:
        megabytes: largest picture, in millions of bytes.
        megapixels: largest picture, in millions of pixels; read from its header, before anything is decoded.
        faces: so many faces of a photograph are looked at, the most prominent ones.
        read_seconds: a request must have arrived by then.
        answer_seconds: after this time of waiting and computing a request is given up.
        waiting: pictures that wait for a model; the next one is told to come back later.
        held_megabytes: all pictures together that are being received or computed; the next one is told to come back.
        session_megabytes: memory for what the page needs to decode a mask again; the oldest go first.
        session_minutes: how long that is held.
    """

    megabytes: float = 20.0
    megapixels: float = 25.0
    faces: int = 20
    read_seconds: float = 30.0
    answer_seconds: float = 60.0
    waiting: int = 64
    held_megabytes: float = 256.0
    session_megabytes: float = 64.0
    session_minutes: float = 10.0

    def __post_init__(self) -> None:
        """Check ranges."""
        for field in fields(self):
            if getattr(self, field.name) <= 0:
                raise ValueError(f"{field.name} must be above 0, got {getattr(self, field.name)}")
        if self.held_megabytes < self.megabytes:
            raise ValueError(f"held_megabytes={self.held_megabytes:g} is less than one picture of {self.megabytes:g}")


class HeldBytes:
    """Counts what all requests hold in memory.

    Args:
        most: bytes.
    """

    def __init__(self, most: int) -> None:
        self.most, self.now = most, 0

    def take(self, count: int) -> None:
        """Count bytes in.

        Raises:
            Refused: if there are too many.
        """
        if self.now + count > self.most:
            raise Refused(503, "The server holds as many pictures as it may; try again in a few seconds.")
        self.now += count

    def give_back(self, count: int) -> None:
        """Count bytes out."""
        self.now -= count
