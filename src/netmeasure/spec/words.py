"""Define the literal types and the limits of specifications."""

from __future__ import annotations

from typing import Literal

Direction = Literal["upload", "download", "both"]
SendMode = Literal["copy", "sendfile"]
ReceiveMode = Literal["copy", "discard"]
Family = Literal["any", "ipv4", "ipv6"]
FetchDirection = Literal["download", "upload"]
Padding = Literal["oaep", "pkcs1"]
PassiveMode = Literal["auto", "epsv", "pasv"]
Transport = Literal["tcp", "udp"]
Framing = Literal["wire", "frame", "ip"]

DEFAULT_PORT = 5201
#: Bitrates that differ by less than this share count as the same, unless the user says otherwise.
DEFAULT_MARGIN = 0.02
DEFAULT_DURATION_S = 10.0
#: The longest measured time of a test that ends by itself (`Timing.until`), unless given.
DEFAULT_CAP_S = 60.0
MIN_UNTIL, MAX_UNTIL = 0.001, 0.5
DEFAULT_BLOCK_BYTES = 512 * 1024
MAX_BLOCK_BYTES = 1024 * 1024  # iperf3's limit; both ends of a test use the same block size
#: Of a test between two ends, in both directions together, and what a server permits by default,
#: which is the most that iperf3 permits.
MAX_STREAMS, USUAL_STREAMS = 1024, 128
MAX_TRANSFERS = 128  # at a time, of a test by URL
MAX_DURATION_S = 86_400
MAX_OMIT_S = 600
MIN_BASELINE_S = 0.2
MAX_WINDOW_BYTES = 512 * 1024 * 1024
MAX_MSS_BYTES = 32_767
MAX_COUNT = 2**63 - 1
DEFAULT_UDP_BPS = 1024 * 1024  # iperf3's default, too low to disturb a network by mistake
MIN_DATAGRAM_BYTES, MAX_DATAGRAM_BYTES = 16, 65_507
MAX_BURST = 1000
#: Of round trips: the length of a request or a response, and requests in flight.
MAX_MESSAGE_BYTES = 1024 * 1024
MAX_IN_FLIGHT = 10_000
MAX_CONNECTIONS = 10_000  # of requests by HTTP
MAX_THREADS = 64
MAX_REQUEST_BYTES = 65_536
MAX_SPIN_US = 1000
MAX_CPU = 1024
MAX_FLOW_LABEL = 0xFFFFF
MAX_DEVICE_NAME = 15  # IFNAMSIZ - 1
MAX_TEXT = 4096  # an iperf3 server refuses parameters of more than 8192 bytes
MAX_PEM = 16_384
#: The characters that a path or a query may have (RFC 3986), and the % of encoded ones.
URL_CHARACTERS = "!#$%&'()*+,-./:;=?@[]_~"
#: HTTP headers whose values are secrets: they are never saved with a result.
SECRET_HEADERS = ("authorization", "cookie", "proxy-authorization")
