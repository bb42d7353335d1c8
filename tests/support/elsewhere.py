"""Run an event loop in a network namespace, for programs that open sockets while they run.

A socket belongs to the namespace of the thread that opens it. For TCP it is enough to be in the
namespace when the listener is opened. A UDP server opens a socket for each new stream.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from support.netns import NamespacePair

_ANSWER_S = 60.0


@contextlib.contextmanager
def loop_on(
    network: NamespacePair, side: str
) -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Yield a function that runs coroutines to their ends on `side` of `network`, all in one loop.

    The loop continues between the calls, in a thread of its own, until the ``with`` block ends.
    """
    loop = asyncio.new_event_loop()

    def live() -> None:
        with network.enter(side):
            loop.run_forever()

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(_ANSWER_S)

    thread = threading.Thread(target=live, name=f"loop-on-{side}")
    thread.start()
    try:
        yield run
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
