"""What `s3pot serve` counts, as Prometheus reads it. No label comes from a client, so that their number is bounded."""

from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60)
_BATCHES = (1, 2, 4, 8, 16, 32, 64)


class ServeMetrics:
    """Counters of one ingress, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        own = {"registry": self._registry}
        self._requests = Counter("s3pot_requests", "Requests answered.", ["path", "status"], **own)
        self._seconds = Histogram(
            "s3pot_request_seconds",
            "From the first byte of a request to its answer.",
            ["path"],
            buckets=_SECONDS,
            **own,
        )
        self._stages = Histogram(
            "s3pot_stage_seconds",
            "Of photographs, by stage: read, decode, wait (for a replica and its batch), locate, models, answer.",
            ["stage"],
            buckets=_SECONDS,
            **own,
        )
        self._batches = Histogram(
            "s3pot_batch_size", "Photographs computed together, per photograph.", buckets=_BATCHES, **own
        )
        self._faces = Counter(
            "s3pot_faces", "Faces by status; no_face counts photographs without one.", ["status"], **own
        )
        self.in_flight = Gauge("s3pot_requests_in_flight", "Requests being received or computed.", **own)
        self.held_bytes = Gauge("s3pot_held_bytes", "Bytes of the pictures being received or computed.", **own)
        self.sessions = Gauge("s3pot_sessions", "Faces held for decoding again.", **own)
        self.session_bytes = Gauge("s3pot_session_bytes", "Memory of these.", **own)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def photograph(self, statuses: Sequence[str], batch: int, milliseconds: Mapping[str, float]) -> None:
        """Count a photograph that was computed."""
        for status in statuses:
            self._faces.labels(status).inc()
        self._batches.observe(batch)
        for stage, spent in milliseconds.items():
            self._stages.labels(stage).observe(spent / 1000)

    def text(self) -> bytes:
        """Return all in Prometheus' text format."""
        return generate_latest(self._registry)
