"""Random numbers as a pure function of (seed, name, step), never of call order.

Philox4x32-10 turns a 64-bit key and a 128-bit counter into four 32-bit words. Eager and
compiled execution, and a resumed run, therefore draw the same numbers.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3",
SC 2011. The known-answer vectors of its reference implementation are in the tests.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["generator", "philox_4x32", "random_bits", "stream_key"]

_MULTIPLIER_0 = np.uint64(0xD2511F53)
_MULTIPLIER_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = 0x9E3779B9
_WEYL_1 = 0xBB67AE85
_ROUNDS = 10
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)

UintArray = np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]]


def stream_key(seed: int, name: str) -> tuple[int, int]:
    """Two 32-bit words that select the stream ``name`` of ``seed``.

    A cryptographic hash keeps streams of neighbouring seeds and names unrelated.
    """
    import hashlib  # loads OpenSSL, which programs without randomness never need

    digest = hashlib.blake2b(f"{int(seed)}:{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


def generator(seed: int, name: str, step: int = 0) -> np.random.Generator:
    """NumPy's generator for one stream at one step: shuffles, initial weights, noise.

    Example:
        >>> a = generator(0, "shuffle", step=3).permutation(5)
        >>> b = generator(0, "shuffle", step=3).permutation(5)
        >>> bool((a == b).all())
        True
    """
    low, high = stream_key(seed, name)
    bits = np.random.Philox(key=low | high << 32, counter=[0, 0, 0, int(step)])
    return np.random.Generator(bits)


def philox_4x32(counter: UintArray, key: tuple[int, int]) -> UintArray:
    """Ten Philox rounds on each row of four counter words.

    Shapes: counter uint32 (n, 4) -> uint32 (n, 4).
    """
    c0, c1, c2, c3 = (counter[:, i].astype(np.uint64) for i in range(4))
    k0, k1 = key
    for _ in range(_ROUNDS):
        p0 = c0 * _MULTIPLIER_0
        p1 = c2 * _MULTIPLIER_1
        c0 = (p1 >> _SHIFT) ^ c1 ^ np.uint64(k0)
        c2 = (p0 >> _SHIFT) ^ c3 ^ np.uint64(k1)
        c1 = p1 & _LOW
        c3 = p0 & _LOW
        k0 = (k0 + _WEYL_0) & 0xFFFFFFFF
        k1 = (k1 + _WEYL_1) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def random_bits(key: tuple[int, int], step: int, size: int) -> UintArray:
    """``size`` uniform 32-bit words of one stream at one step.

    The counter is (block number, 64 bits; step, 64 bits), so word i does not depend on
    how many are drawn.
    """
    blocks = np.arange((size + 3) // 4, dtype=np.uint64)
    counter = np.empty((len(blocks), 4), np.uint32)
    counter[:, 0] = blocks & _LOW
    counter[:, 1] = blocks >> _SHIFT
    counter[:, 2] = step & 0xFFFFFFFF
    counter[:, 3] = step >> 32
    return philox_4x32(counter, key).reshape(-1)[:size]
