"""What is held for decoding again: bounded in bytes and time."""

import pytest

from ray_jobs.serve_messages import Refused
from ray_jobs.serve_sessions import Sessions


def test_the_least_recently_used_goes_first() -> None:
    sessions = Sessions(30, 100)
    first, second, third = (sessions.add(bytes([number]) * 10) for number in range(3))
    assert sessions.get(first) == b"\x00" * 10
    fourth = sessions.add(b"\x03" * 10)
    assert [sessions.get(name)[0] for name in (first, third, fourth)] == [0, 2, 3]
    with pytest.raises(Refused, match="no longer held") as refused:
        sessions.get(second)
    assert refused.value.status == 404
    assert sessions.held == 30
    assert len(sessions) == 3


def test_one_that_is_too_large_drives_out_all_and_is_not_held_itself() -> None:
    sessions = Sessions(30, 100)
    sessions.add(b"a" * 10)
    sessions.add(b"b" * 31)
    assert (len(sessions), sessions.held) == (0, 0)


def test_use_renews_and_time_ends() -> None:
    now = [0.0]
    sessions = Sessions(100, 10, lambda: now[0])
    used, unused = sessions.add(b"a"), sessions.add(b"b")
    now[0] = 6.0
    sessions.get(used)
    now[0] = 12.0
    assert sessions.get(used) == b"a"
    with pytest.raises(Refused):
        sessions.get(unused)
    now[0] = 23.0
    sessions.forget_old()
    assert (len(sessions), sessions.held) == (0, 0)


def test_ids_cannot_be_guessed() -> None:
    sessions = Sessions(10_000, 100)
    names = {sessions.add(b"a") for _ in range(100)}
    assert len(names) == 100
    assert min(map(len, names)) >= 20
