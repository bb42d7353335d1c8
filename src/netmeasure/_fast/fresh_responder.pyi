from netmeasure._fast.worker import Group, Stream

class FreshResponder(Stream):
    def __init__(
        self,
        group: Group,
        fd: int,
        *,
        listener: int,
        peer: bytes,
        token: bytes = b"",
        request_bytes: int = 1,
        payload: bytes,
        places: int = 64,
        patience_ns: int = ...,
        width_ns: int = ...,
        buckets: int = ...,
        sample_every_ns: int = ...,
    ) -> None: ...
    @property
    def accepted(self) -> int: ...
    @property
    def answered(self) -> int: ...
    @property
    def strangers(self) -> int: ...
    def run(self) -> None: ...
