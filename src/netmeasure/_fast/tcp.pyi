from netmeasure._fast.worker import Group, Stream

class Sender(Stream):
    def __init__(
        self,
        group: Group,
        fd: int,
        *,
        payload: bytes = b"",
        block_bytes: int = 0,
        source_fd: int = -1,
        duration_ns: int = 0,
        omit_ns: int = 0,
        half_close: bool = True,
        drain_ns: int = ...,
        whole_file: bool = False,
        rate_bps: float = 0,
        width_ns: int = ...,
        buckets: int = ...,
        sample_every_ns: int = ...,
    ) -> None: ...
    def run(self) -> None: ...

class Receiver(Stream):
    def __init__(
        self,
        group: Group,
        fd: int,
        *,
        buffer_bytes: int = ...,
        discard: bool = False,
        omit_ns: int = 0,
        limit_bytes: int = 0,
        sink_fd: int = -1,
        leading_bytes: int = 0,
        leading_ns: int = 0,
        width_ns: int = ...,
        buckets: int = ...,
        sample_every_ns: int = ...,
    ) -> None: ...
    @property
    def arrived_ns(self) -> int | None: ...
    def run(self) -> None: ...
