"""Where every random bit of a mechanism comes from.

torch's CPU generator uses 32 bits of its seed and numpy's are not cryptographic: noise drawn from
either can be searched out and subtracted. Production draws from the operating system's generator,
stretched by ChaCha20 (RFC 8439); the keyed kind exists for reproducible simulations only.
"""

import hashlib
import os
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray

_ZEROS = memoryview(bytes(1 << 16))
"""What is encrypted: the stream itself comes out. So little at a time stays in the cache."""

_BITS = 52
"""Of a double's 53, so that half a step below 1 is still a number of its own."""


class NoiseSource(Protocol):
    """Uniform bits; :func:`gaussian` and :func:`bernoulli` are built on them."""

    @property
    def has_guarantee(self) -> bool:
        """False for anything that can be reproduced."""

    def random_bytes(self, count: int) -> bytes | bytearray:
        """``count`` fresh bytes, never given out before."""


class _ChaCha20Stream:
    """The ChaCha20 key stream of one 32-byte key; one instance must never be copied."""

    def __init__(self, key: bytes) -> None:
        # The 16 bytes are the block counter and the nonce; each key is used for one stream.
        self._encryptor = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()

    def read(self, count: int) -> bytearray:
        stream = bytearray(count)
        target = memoryview(stream)
        for start in range(0, count, len(_ZEROS)):
            part = target[start : start + len(_ZEROS)]
            self._encryptor.update_into(_ZEROS[: len(part)], part)
        return stream


class SystemNoise:
    """The production kind: each call is keyed afresh from the operating system.

    No state outlives a call, so forks, restarts and copies of the process never share noise.
    """

    has_guarantee = True

    def random_bytes(self, count: int) -> bytes | bytearray:
        """``count`` bytes of a stream whose key was drawn for this call."""
        return _ChaCha20Stream(os.urandom(32)).read(count)


class KeyedNoise:
    """Reproducible noise for simulations; nodes refuse it outside of one.

    ``labels`` separate streams: the same key with other labels gives unrelated noise.
    """

    has_guarantee = False

    def __init__(self, key: int | bytes, *labels: str | int) -> None:
        text = "\x1f".join([key.hex() if isinstance(key, bytes) else str(key), *map(str, labels)])
        self._stream = _ChaCha20Stream(hashlib.sha256(text.encode()).digest())

    def random_bytes(self, count: int) -> bytes | bytearray:
        """The next ``count`` bytes of this key's stream."""
        return self._stream.read(count)


def uniform(source: NoiseSource, count: int) -> NDArray[np.float64]:
    """``count`` doubles in the open interval (0, 1), 52 random bits each."""
    drawn = (np.frombuffer(source.random_bytes(8 * count), dtype="<u8") >> (64 - _BITS)) + 0.5
    drawn *= 2.0**-_BITS
    return np.asarray(drawn, dtype=np.float64)


def bernoulli(source: NoiseSource, probability: float, count: int) -> NDArray[np.bool_]:
    """``count`` independent coins, each true with ``probability``."""
    return uniform(source, count) < probability


def gaussian(source: NoiseSource, count: int) -> NDArray[np.float64]:
    """``count`` standard normal doubles by the Box-Muller transform (1958).

    Cosine and sine of an angle both come from the tangent t of its half, which is one function to
    evaluate instead of two: cos = (1 - t²)/(1 + t²), sin = 2t/(1 + t²).
    """
    pairs = (count + 1) // 2
    radius, tangent = uniform(source, pairs), uniform(source, pairs)
    np.log(radius, out=radius)
    radius *= -2
    np.sqrt(radius, out=radius)
    tangent *= np.pi
    np.tan(tangent, out=tangent)
    square = tangent * tangent
    scale = np.divide(radius, 1 + square, out=radius)
    normals = np.empty(2 * pairs)
    np.subtract(1, square, out=square)
    np.multiply(scale, square, out=normals[:pairs])
    tangent *= 2
    np.multiply(scale, tangent, out=normals[pairs:])
    return normals[:count]


def choice(source: NoiseSource, below: int, count: int) -> NDArray[np.int64]:
    """``count`` integers, uniform in [0, ``below``)."""
    return (uniform(source, count) * below).astype(np.int64)
