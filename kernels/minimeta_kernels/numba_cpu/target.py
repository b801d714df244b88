"""What the processor at hand offers to vector code: the width of a vector and how many fit in registers."""

from __future__ import annotations

import platform
from typing import NamedTuple

import llvmlite.binding as llvm


class Target(NamedTuple):
    """Bytes in one vector register and the number of such registers."""

    vector_bytes: int
    registers: int


def host() -> Target:
    """The target of this machine, from what LLVM says of its processor."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return Target(64, 32)
    if features.get("avx2"):
        return Target(32, 16)
    # SSE2 and NEON: 16 bytes; on ARM there are 32 registers
    return Target(16, 32 if platform.machine().lower() in ("aarch64", "arm64") else 16)


TARGET = host()
