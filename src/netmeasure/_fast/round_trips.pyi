from netmeasure._fast.worker import Group, Stream

class Histogram:
    def __init__(self) -> None: ...
    def add(self, ns: int) -> None: ...
    def merge(self, other: Histogram) -> None: ...
    @property
    def count(self) -> int: ...
    @property
    def sum_ns(self) -> int: ...
    @property
    def min_ns(self) -> int | None: ...
    @property
    def max_ns(self) -> int | None: ...
    def buckets(self) -> list[tuple[int, int, int]]: ...

class Requester(Stream):
    def __init__(
        self,
        group: Group,
        fd: int,
        *,
        payload: bytes,
        response_bytes: int = 1,
        in_flight: int = 1,
        duration_ns: int = 0,
        omit_ns: int = 0,
        drain_ns: int = ...,
        per_s: float = 0,
        lost_after_ns: int = ...,
        width_ns: int = ...,
        buckets: int = ...,
        sample_every_ns: int = ...,
    ) -> None: ...
    @property
    def latency(self) -> Histogram: ...
    @property
    def begun(self) -> int: ...
    @property
    def answered(self) -> int: ...
    @property
    def skipped(self) -> int: ...
    @property
    def late(self) -> tuple[int, int]: ...
    def latency_sums(self) -> tuple[int | None, int, list[int]]: ...
    def run(self) -> None: ...

class DatagramRequester(Requester):
    def __init__(
        self,
        group: Group,
        fd: int,
        *,
        payload: bytes,
        response_bytes: int = 1,
        in_flight: int = 1,
        duration_ns: int = 0,
        omit_ns: int = 0,
        drain_ns: int = ...,
        per_s: float = 0,
        lost_after_ns: int = ...,
        width_ns: int = ...,
        buckets: int = ...,
        sample_every_ns: int = ...,
    ) -> None: ...
    def run(self) -> None: ...
    @property
    def lost(self) -> tuple[int, int]: ...
    @property
    def late_responses(self) -> int: ...
    @property
    def invalid_responses(self) -> int: ...
    @property
    def refused(self) -> int: ...

class Responder(Stream):
    def __init__(
        self,
        group: Group,
        fd: int,
        *,
        request_bytes: int = 1,
        payload: bytes,
        width_ns: int = ...,
        buckets: int = ...,
        sample_every_ns: int = ...,
    ) -> None: ...
    def run(self) -> None: ...

class DatagramResponder(Responder):
    def __init__(
        self,
        group: Group,
        fd: int,
        *,
        request_bytes: int = 1,
        payload: bytes,
        hello: bytes = b"",
        hello_bytes: int = 0,
        hello_reply: bytes = b"",
        width_ns: int = ...,
        buckets: int = ...,
        sample_every_ns: int = ...,
    ) -> None: ...
    def run(self) -> None: ...
    @property
    def invalid_requests(self) -> int: ...

class SharedLoop:
    def __init__(self) -> None: ...
    def add(self, loop: Requester | Responder) -> None: ...
    def run(self) -> None: ...
