"""Who holds a claim: the name of a process, and whether it is still there."""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path


def new_owner() -> str:
    """A name that says where the process is, and that no other has."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex}"


def is_dead(owner: str) -> bool:
    """Whether the owner was a process of this machine, and has ended."""
    host, pid, _ = owner.rsplit(":", 2)
    if host != socket.gethostname() or os.name == "nt":  # there, os.kill would end it
        return False
    try:
        os.kill(int(pid), 0)
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return True
    except OSError:  # somebody else's process, or a system without /proc
        return False
    return state == "Z"  # killed, and its parent has not looked yet
