"""Connect asyncio to the native loops: sockets, threads, set-up phases, figures of the kernel."""
