"""Addresses that only this machine can reach."""

import ipaddress
import socket

from harness import UsageError

LOOPBACK = "127.0.0.1"


def check_address(host: str, port: int) -> None:
    """Refuse an address that others can reach, and a port that is taken."""
    if not is_loopback(host):
        raise UsageError(
            f"--host: expected a loopback address, since the page asks for no password, got {host!r}: "
            f"from another machine use ssh -N -L {port}:{LOOPBACK}:{port} HOST"
        )
    if not 0 < port < 65536:
        raise UsageError(f"--port: expected a number from 1 to 65535, got {port}")
    try:
        socket.create_server((host, port), family=family(host)).close()
    except OSError as error:
        raise UsageError(
            f"--port: expected a free port on {host}, got {port}: {error.strerror}: name another"
        ) from None


def is_loopback(host: str) -> bool:
    """Whether only this machine can mean itself by it."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def family(host: str) -> socket.AddressFamily:
    """IPv6 for ::1."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def address(host: str, port: int) -> str:
    """Host and port as a browser takes them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
