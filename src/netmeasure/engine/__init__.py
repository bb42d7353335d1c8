"""Between asyncio and the native loops: sockets, threads, set-up phases, kernel figures."""
