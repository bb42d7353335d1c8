"""Tell a client why the server ends its test."""

from __future__ import annotations

import asyncio

from netmeasure.engine.control import ControlChannel
from netmeasure.errors import HostLimitError, MeasureError, RefusedTestError, StreamError
from netmeasure.protocol import ErrorCode, Kind, ServerError

#: How long a client has to read the reason before its streams break.
HEARD_S = 0.5
#: A plain client reads its control connection between two writes. It must do so before its streams
#: break; otherwise it reports the broken streams instead of the reason.
LAST_WORD_S = 0.05
#: The message of a cancellation that makes room for another client, while the server goes on.
CROWDED = "crowded"
#: How long to try to tell a client that its test is over.
TELL_S = 1.0


async def say_why(control: ControlChannel, error: BaseException, *, opened: bool) -> None:
    """Send the client the reason why its test ends. `opened`: it may have opened streams, which
    break soon."""
    try:
        if isinstance(error, asyncio.CancelledError):
            word = Kind.ACCESS_DENIED if CROWDED in error.args else Kind.SERVER_TERMINATE
            await control.send(word, deadline_s=TELL_S)
            await asyncio.sleep(LAST_WORD_S)
        elif (number := _wire_number(error)) == ErrorCode.BUSY:
            await control.send(Kind.ACCESS_DENIED, deadline_s=TELL_S)
            await control.finish(HEARD_S)
        elif number is not None:
            code = ServerError(number, getattr(error, "errno", None))
            await control.send(Kind.SERVER_ERROR, code, deadline_s=TELL_S)
            if opened:
                await control.finish(HEARD_S)
    except MeasureError:
        pass  # the client is already gone


def _wire_number(error: BaseException) -> int | None:
    """Return the number of the error to send to the client; None: none is sent."""
    if isinstance(error, StreamError):
        return ErrorCode.STREAM_READ  # for both directions, since any number ends the client's test
    return error.number if isinstance(error, RefusedTestError | HostLimitError) else None
