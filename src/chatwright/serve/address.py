"""Addresses of clients: as the audit log keeps them, and as rate limits group them.

Behind a proxy that `--trusted-proxy` names, uvicorn's middleware puts the right-most untrusted entry of X-Forwarded-For in
place of the proxy's address (serve/app.py).
"""

from __future__ import annotations

import ipaddress

from fastapi import Request


def client_address(request: Request | None) -> str:
    """The client's IP address in its normal form; "" when it is unknown or not an address."""
    host = request.client.host if request is not None and request.client else ""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def network_of(address: str) -> str:
    """The group that limits count together: an IPv4 address, or the /64 network that one IPv6 host has to itself."""
    if ":" not in address:
        return address
    return str(ipaddress.ip_network(f"{address}/64", strict=False))
