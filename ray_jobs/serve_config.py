"""Configuration of `s3pot serve`."""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from ray_jobs.serve_limits import ServeLimits
from s3pot.chain import ChainConfig

# Ray's own processes listen there.
_RAY_PORTS = range(10_002, 20_000)


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """What is served, where, on what.

    Attributes:
        host: address to listen at. Whoever reaches it can use the service: there is no authentication.
        port: port to listen at; not in 10002-19999, where Ray's workers are.
        chain: models and frozen stages; faces are found by them (`detect`), or pictures are taken as faces (`none`);
            every face is answered, chain.faces does not count here.
        head: a trained reweighter; none = the embedded one for the nano SAM.
        abstain: mark nothing on faces that score below the threshold that came with the head.
        replicas: processes that hold the models.
        cpus_per_replica: CPU cores per replica, and its threads.
        gpus_per_replica: share of a GPU per replica; 0 = CPU.
        batch_size: photographs that a replica computes together at most; also faces per pass of the models.
        batch_wait_ms: how long an idle replica waits for more photographs once one has come.
        limits: what clients may ask for.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    chain: ChainConfig = field(default_factory=ChainConfig)
    head: Path | None = None
    abstain: bool = True
    replicas: int = 1
    cpus_per_replica: float = 1.0
    gpus_per_replica: float = 0.0
    batch_size: int = 8
    batch_wait_ms: float = 5.0
    limits: ServeLimits = field(default_factory=ServeLimits)

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("port", "replicas", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.port > 65_535 or self.port in _RAY_PORTS:
            raise ValueError(
                f"port must be below 65536 and not in {_RAY_PORTS.start}-{_RAY_PORTS.stop - 1}, where Ray's own "
                f"processes listen, got {self.port}"
            )
        if self.cpus_per_replica <= 0 or self.gpus_per_replica < 0 or self.batch_wait_ms < 0:
            raise ValueError("cpus_per_replica must be above 0, gpus_per_replica and batch_wait_ms at least 0")
        if self.chain.alignment == "landmarks" or self.chain.generator == "precomputed":
            raise ValueError(
                "chain.alignment=landmarks and chain.generator=precomputed are for images with names; "
                "photographs that are sent have none"
            )
        if self.head is None and self.chain.sam != "nano":
            raise ValueError(f"there is no embedded head for {self.chain.sam}: train one and pass head=...")

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches the service."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/"
