"""Locks that die with their owner."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from captionlab import locks
from captionlab.locks import OwnedLock, Owner, beating, is_fresh


def write(path: Path, owner: Owner) -> None:
    path.write_text(json.dumps(asdict(owner)))


def dead() -> Owner:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return replace(Owner.current(), pid=process.pid)


def test_a_process_is_alive_until_it_ends_and_its_number_is_not_enough() -> None:
    own = Owner.current()
    assert own.is_alive() is True
    assert dead().is_alive() is False
    assert replace(own, started=own.started + 1).is_alive() is False, "another process, same number"
    assert replace(own, host="elsewhere").is_alive() is None
    assert Owner.from_json(asdict(own)) == own
    assert Owner.from_json({"host": "h"}) is None


def test_a_lock_is_held_by_one_and_left_by_nobody(tmp_path: Path) -> None:
    lock, order = OwnedLock(tmp_path / "lock"), list[str]()

    def second() -> None:
        with lock.hold(lambda: order.append("waits")):
            order.append("second")

    with lock.hold():
        thread = threading.Thread(target=second)
        thread.start()
        while not order:
            time.sleep(0.01)
        order.append("first")
    thread.join()
    assert order == ["waits", "first", "second"]
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_process_that_died_here_is_taken_at_once(tmp_path: Path) -> None:
    write(tmp_path / "lock", dead())
    waited = list[int]()
    with OwnedLock(tmp_path / "lock").hold(lambda: waited.append(1)):
        assert waited == []


def test_the_lock_of_a_machine_that_died_is_taken_when_its_heartbeat_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "STALE_SECONDS", 2.0)
    monkeypatch.setattr(locks, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(locks, "_POLL_SECONDS", 0.05)
    path = tmp_path / "lock"
    write(path, replace(Owner.current(), host="elsewhere"))
    taken = threading.Event()

    def take() -> None:
        with OwnedLock(path).hold():
            taken.set()

    with beating(path):
        thread = threading.Thread(target=take)
        thread.start()
        assert not taken.wait(4), "the other machine is alive"
    assert taken.wait(20)
    thread.join()


@pytest.mark.parametrize("host", ["here", "elsewhere"])
def test_clocks_of_machines_are_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """Of a machine that died, and of one that died while it broke a lock."""
    monkeypatch.setattr(locks, "STALE_SECONDS", 0.3)
    monkeypatch.setattr(locks, "_POLL_SECONDS", 0.02)
    owner = replace(Owner.current(), host="elsewhere")
    write(tmp_path / "lock", owner)
    write(tmp_path / "lock.break", dead() if host == "here" else owner)
    for path in tmp_path.iterdir():
        os.utime(path, (time.time() + 10_000,) * 2)
    taken = threading.Event()

    def take() -> None:
        with OwnedLock(tmp_path / "lock").hold():
            taken.set()

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    assert taken.wait(20)
    thread.join()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_of_those_that_wait_harms_nobody(tmp_path: Path) -> None:
    write(tmp_path / "lock", dead())
    breaking = tmp_path / "lock.break"
    write(breaking, dead())
    with OwnedLock(tmp_path / "lock").hold():
        assert not breaking.exists()


def test_a_file_that_is_touched_is_fresh(tmp_path: Path) -> None:
    path = tmp_path / "status"
    assert not is_fresh(path)
    path.touch()
    assert is_fresh(path)
    os.utime(path, (0, 0))
    assert not is_fresh(path)
