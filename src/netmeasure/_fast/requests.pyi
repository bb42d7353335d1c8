from collections.abc import Iterable

from netmeasure._fast.round_trips import Histogram
from netmeasure._fast.worker import Group, Stream

ERRORS: tuple[str, ...]

class TlsClient:
    def __init__(
        self,
        name: bytes,
        *,
        numeric: bool = False,
        verifies: bool = True,
        ca_file: bytes | None = None,
        ca_folder: bytes | None = None,
    ) -> None: ...

class RequestLoop(Stream):
    def __init__(
        self,
        group: Group,
        fd: int = -1,
        *,
        request: bytes,
        to: bytes,
        origin: bytes = b"",
        socket_options: Iterable[tuple[int, int, bytes]] = (),
        connections: int = 1,
        tls: TlsClient | None = None,
        keep: bool = True,
        no_body: bool = False,
        response_bytes: int = 0,
        duration_ns: int = 0,
        omit_ns: int = 0,
        drain_ns: int = ...,
        connect_ns: int = ...,
        answer_ns: int = ...,
        per_s: float = 0,
        phase: float = 0,
        width_ns: int = ...,
        buckets: int = ...,
        sample_every_ns: int = ...,
    ) -> None: ...
    @property
    def latency(self) -> Histogram: ...
    @property
    def connecting(self) -> Histogram: ...
    @property
    def shaking(self) -> Histogram: ...
    @property
    def answering(self) -> Histogram: ...
    @property
    def begun(self) -> int: ...
    @property
    def answered(self) -> int: ...
    @property
    def rejected(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def skipped(self) -> int: ...
    @property
    def late(self) -> tuple[int, int]: ...
    @property
    def errors(self) -> dict[str, int]: ...
    @property
    def statuses(self) -> dict[int, int]: ...
    @property
    def connect_errno(self) -> int: ...
    @property
    def tls_error(self) -> str | None: ...
    @property
    def syn_retransmits(self) -> int: ...
    @property
    def body_bytes(self) -> int: ...
    def latency_sums(self) -> tuple[int | None, int, list[int]]: ...
    def run(self) -> None: ...
