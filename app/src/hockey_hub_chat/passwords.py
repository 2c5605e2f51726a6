"""Password hashes: argon2id, computed in gevent's thread pool so that a log-in holds up no other greenlet."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import argon2
import gevent
from gevent.hub import Hub
from gevent.threadpool import ThreadPool

#: Characters; longer ones only cost memory.
MIN_LENGTH, MAX_LENGTH = 8, 1024
#: Hashes under way at once in a worker: each takes 64 MiB and a core.
_PARALLEL = 2

P = ParamSpec("P")
R = TypeVar("R")

_hasher = argon2.PasswordHasher()
_pools: WeakKeyDictionary[Hub, ThreadPool] = WeakKeyDictionary()


def hash_password(password: str) -> str:
    """Return an argon2id PHC string."""
    return _in_thread(_hasher.hash, password)


def verify_password(password_hash: str | None, password: str) -> bool:
    """Whether the password is right. None (no such account) takes as long as a wrong password and is False."""
    right = _in_thread(_verify, password_hash or _hash_of_nobody(), password)
    return right and password_hash is not None


def _verify(password_hash: str, password: str) -> bool:
    try:
        return _hasher.verify(password_hash, password)
    except (argon2.exceptions.VerifyMismatchError, argon2.exceptions.InvalidHashError):
        return False


@functools.cache
def _hash_of_nobody() -> str:
    return hash_password("nobody has this password")


def _in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    hub = gevent.get_hub()
    pool = _pools.get(hub)
    if pool is None:
        _pools[hub] = pool = ThreadPool(_PARALLEL, hub=hub)
    result: R = pool.apply(function, args, kwargs)
    return result
