"""TUN devices: what the kernel sends through them is read as packets, what is written arrives. Stateless; for root.

A device goes when its descriptor is closed, hence also with a process that is killed: there is nothing to clean up.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess

from tests.support.programs import find_program

MTU_BYTES = 1500
HEADER_BYTES = 10  # struct virtio_net_hdr: before each packet, passed on as it is
PACKET_BYTES = HEADER_BYTES + 65536  # of the largest read
_TUNSETIFF, _TUNSETOFFLOAD = 0x400454CA, 0x400454D0  # linux/if_tun.h
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_TUN_F_CSUM, _TUN_F_TSO4 = 0x01, 0x02
_COMMAND_SECONDS = 10.0


def missing_tun() -> str | None:
    """Return why no link can be made here, or None."""
    if os.geteuid() != 0:
        return "a network namespace needs root"
    for program, package in (("ip", "iproute2"), ("unshare", "util-linux"), ("nsenter", "util-linux")):
        if find_program(program) is None:
            return f"{program} is not installed (Debian: apt install {package})"
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        return f"/dev/net/tun cannot be opened: {error.strerror}"
    return None


def open_tun(name: str) -> int:
    """Make a device in this process's network namespace; return its descriptor.

    Segmentation is left to the reader, who passes it on: TCP makes packets of `MTU_BYTES`, but hands over up to 64 KiB of them at
    once. Reading each one by itself would take more processor time than all else (140,000 a second at 200 MB/s).
    """
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR))
        fcntl.ioctl(fd, _TUNSETOFFLOAD, _TUN_F_CSUM | _TUN_F_TSO4)
    except OSError:
        os.close(fd)
        raise
    return fd


def set_up(name: str, address: str) -> None:
    """Give a device its address (A.B.C.D/LENGTH) and let it work. Raises: OSError."""
    _ip("address", "add", address, "dev", name)
    _ip("link", "set", "dev", name, "mtu", str(MTU_BYTES), "up")


def set_up_loopback() -> None:
    _ip("link", "set", "dev", "lo", "up")


def _ip(*arguments: str) -> None:
    command = [find_program("ip") or "ip", *arguments]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False
    )
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
