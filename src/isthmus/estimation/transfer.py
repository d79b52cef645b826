"""Time of one exchange over a link, counted by TCP's rounds. It knows no server and learns nothing.

Bytes over the rate is not the time of a transfer: a sender may have only one window of bytes under
way, and a new or long idle connection starts with a small one that doubles each round trip. It
leaves out losses, and what the link itself makes of them.
"""

from __future__ import annotations

import math

from isthmus.errors import ConditionsError
from isthmus.types.link import INITIAL_WINDOW_BYTES, Link

__all__ = ["INITIAL_WINDOW_BYTES", "exchange_s"]


def exchange_s(
    link: Link,
    *,
    sent_bytes: float,
    received_bytes: float,
    is_connected: bool = True,
    window_bytes: float = math.inf,
    tls_rounds: int = 0,
) -> float:
    """Return the expected duration of a request and its reply, without the server's own time.

    One round trip, the bytes of both directions over their rates, what slow start costs each
    direction, and without a connection one round trip for TCP and ``tls_rounds`` for TLS. The
    server's window is not seen from here: it is taken as the initial one, since replies are too
    small to widen it, unless nothing holds back this side either.

    Args:
        link: The path.
        sent_bytes: Size of the request, framing included, not negative.
        received_bytes: Size of the reply, not negative.
        is_connected: Whether a connection is open.
        window_bytes: What this side may send before it hears of the other, positive; infinite
            where nothing holds back. A connection yet to be made starts with
            ``INITIAL_WINDOW_BYTES``, unless ``window_bytes`` is infinite.
        tls_rounds: Round trips of a TLS handshake: 1 with TLS 1.3, 2 before.

    Returns:
        Seconds, connecting included.

    Raises:
        ConditionsError: If a size is negative or the window is not positive.

    References:
        Cardwell et al., "Modeling TCP latency", INFOCOM 2000. *Departs*: no losses, no delayed
        acknowledgements, and every round doubles.

    Examples:
        >>> link = Link(1e6, 1e6, 0.1)
        >>> round(exchange_s(link, sent_bytes=60_000, received_bytes=1_000), 3)
        0.161
        >>> round(exchange_s(link, sent_bytes=60_000, received_bytes=1_000, window_bytes=15_000), 3)
        0.316
    """
    if not (sent_bytes >= 0 and received_bytes >= 0):
        raise ConditionsError(f"no exchange sends {sent_bytes} B and receives {received_bytes} B")
    seconds = link.rtt_s
    seconds += sent_bytes / link.uplink_bytes_per_s
    seconds += received_bytes / link.downlink_bytes_per_s
    if not is_connected:
        seconds += (1 + tls_rounds) * link.rtt_s
    seconds += link.stall_s(sent_bytes, window_bytes if is_connected else _first(window_bytes))
    back = Link(link.downlink_bytes_per_s, link.uplink_bytes_per_s, link.rtt_s)
    return seconds + back.stall_s(received_bytes, _first(window_bytes))


def _first(window_bytes: float) -> float:
    """Return the window of a sender that has just begun, where slow start is seen at all."""
    return window_bytes if math.isinf(window_bytes) else INITIAL_WINDOW_BYTES
