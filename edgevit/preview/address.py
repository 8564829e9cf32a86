"""Where a server of the run listens: from what a user types to a bound socket and the link to open."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from dataclasses import dataclass

from edgevit.errors import ConfigError

FORM = "write HOST:PORT, such as 127.0.0.1:8080, [::1]:8080 or 0.0.0.0:8080 for every address of this machine"
ADDRESS = re.compile(r"(?:(\[[^\[\]]+\]|[^:\[\]]*):)?(\d{1,5})")
SEND_BUFFER = 128 * 1024
"""Bytes. The system's own would hold seconds of pictures, and a slow viewer would see the past."""
UNACKNOWLEDGED_MS = 10_000
"""The system itself cuts a connection whose other side takes nothing for so long."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """A numeric address and a port; port 0 lets the system choose one."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return ipaddress.ip_address(self.host).is_loopback


def parse_address(text: str, option: str = "--serve") -> Address:
    """``HOST:PORT``, or a port of the loopback address alone, as ``option`` has it. Raises ConfigError for anything else."""
    match = ADDRESS.fullmatch(text.strip())
    if match is None or int(match[2]) > 65535:
        msg = f"{option} {text!r} is no address: {FORM}"
        raise ConfigError(msg)
    host, port = (match[1] or "127.0.0.1").strip("[]"), int(match[2])
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        msg = f"{option} {text!r}: no machine is called {host!r} here; {FORM}"
        raise ConfigError(msg) from error
    # IPv4 first: "localhost" is what people type and 127.0.0.1 what they then open.
    *_, numeric = min(found, key=lambda each: each[0] != socket.AF_INET)
    return Address(host=str(numeric[0]).partition("%")[0], port=port)


def listen(address: Address, option: str = "--serve") -> socket.socket:
    """A listening socket, for ``option``.

    Raises ConfigError if the port is taken or not allowed, or the address is another machine's.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; the connections inherit it
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
        listener.bind((address.host, address.port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        reason = {
            errno.EADDRINUSE: "another program listens there. Choose another port; 0 takes a free one",
            errno.EACCES: "ports below 1024 are the administrator's. Choose a higher one",
            errno.EADDRNOTAVAIL: "this machine has no such address. 0.0.0.0 is all that it has",
        }.get(error.errno or 0, f"{error.strerror}. {FORM}")
        msg = f"{option} {bracketed(address.host)}:{address.port}: {reason}"
        raise ConfigError(msg) from error
    return listener


def link(listener: socket.socket, token: str | None) -> str:
    """What to open in a browser. For all addresses the one that leads to the network."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = _own_address(listener.family)
    return f"http://{bracketed(host)}:{port}/" + (f"?token={token}" if token else "")


def peer(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """A viewer's address as a socket tells it, of either family."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


def network(host: str) -> str:
    """What counts as one address of a viewer: IPv6 gives everybody a whole network."""
    address = peer(host)
    return str(address) if address.version == 4 else str(ipaddress.ip_network((address, 64), strict=False))


def bracketed(host: str) -> str:
    """An address as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def _own_address(family: int) -> str:
    """The address that this machine's packets would come from, else its name."""
    target = "2001:db8::1" if family == socket.AF_INET6 else "192.0.2.1"  # for documentation: nobody's
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((target, 9))  # sends nothing
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()
