"""Define the options of `serve`, in one structure.

Unlike in other modules, annotations are evaluated here, because `serve` takes its signature from
them.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import ParamSpec, TypeVar

from netmeasure.observe import Observer
from netmeasure.peer.server.statistics import ServerEvent
from netmeasure.protocol.auth import Gatekeeper
from netmeasure.result import Result
from netmeasure.spec import (
    DEFAULT_PORT,
    MAX_DURATION_S,
    Family,
    Secret,
    ServerLimits,
    ServerTls,
    Timing,
    check_device,
)
from netmeasure.spec.checked import within

P = ParamSpec("P")
Options = TypeVar("Options")
Made = TypeVar("Made")


@dataclass(frozen=True)
class ServerOptions:
    """Hold a server's addresses, limits and observers: see `serve`."""

    host: str | None = None
    port: int = DEFAULT_PORT
    _: KW_ONLY
    family: Family = "any"
    limits: ServerLimits | None = None
    on_result: Callable[[Result], None] | None = None
    on_refusal: Callable[[str], None] | None = None
    on_event: Callable[[ServerEvent], None] | None = None
    observe: Callable[[], Observer] | None = None
    interval_s: float = 1.0
    gatekeeper: Gatekeeper | None = None
    secret: Secret | None = None
    allow_iperf3: bool = False
    tls: ServerTls | None = None
    one_off: bool = False
    idle_s: float | None = None
    device: str | None = None
    fresh_port: int = 0

    def __post_init__(self) -> None:
        """Raise SpecError if a time or the device's name is not valid."""
        Timing(interval_s=self.interval_s)
        within("port for fresh connections", self.fresh_port, 0, 65535, "")
        within("idle timeout", self.idle_s, 0.001, MAX_DURATION_S, "s")
        check_device(self.device)


def called_with(
    structure: Callable[P, Options],
) -> Callable[[Callable[[Options], Made]], Callable[P, Made]]:
    """Let a function that takes an option structure be called with the structure's fields, so that
    their names, types and defaults are defined in one place."""

    def decorate(function: Callable[[Options], Made]) -> Callable[P, Made]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> Made:
            return function(structure(*args, **kwargs))

        made = inspect.signature(function).return_annotation
        signature = inspect.signature(structure).replace(return_annotation=made)
        call.__signature__ = signature  # type: ignore[attr-defined]
        return call

    return decorate
