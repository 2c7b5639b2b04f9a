"""Processes of a measurement: their end, their failures, their memory."""

import os
import sys
import time

import pytest

from benchmarks.data_plane.processes import Crew, MeasurementFailed, memory_mb

SLEEP = "import time; time.sleep(60)"
PARENT = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {SLEEP!r}], start_new_session=True)
time.sleep(60)
"""
BUSY = """
import time
held, end = bytearray(50_000_000), time.process_time() + 0.5
while time.process_time() < end: pass
time.sleep(0.5)
"""


def test_children_of_members_end_too(tmp_path):
    with Crew(tmp_path) as crew:
        crew.start("parent", [sys.executable, "-c", PARENT])
        crew.wait_for(lambda: len(crew.pids()) == 2, 10.0, "the child's start")
        pids = crew.pids()
    assert crew.pids() == []
    assert all(not memory_mb(pid) for pid in pids)


def test_a_failed_member_is_told_with_its_last_words(tmp_path):
    with Crew(tmp_path) as crew, pytest.raises(MeasurementFailed, match=r"(?s)odd ended with status 3.*my last words"):
        crew.start("odd", [sys.executable, "-c", "print('my last words'); raise SystemExit(3)"])
        crew.wait_for(lambda: False, 10.0, "nothing")


def test_a_wait_has_an_end(tmp_path):
    with Crew(tmp_path) as crew, pytest.raises(MeasurementFailed, match="the moon: not within"):
        crew.wait_for(lambda: False, 0.1, "the moon")


def test_memory_and_processor_time_of_a_watched_member(tmp_path):
    with Crew(tmp_path) as crew:
        begin = time.monotonic()
        crew.start("busy", [sys.executable, "-c", BUSY], watch=True)
        crew.wait_all(["busy"], 20.0, "its end")
        assert 0.4 < crew.cpu_between(begin, time.monotonic()) < 2.0
    assert 50 < crew.peak_mb("busy") < 200 and crew.peak_of(sys.executable) == crew.peak_mb("busy")
    assert memory_mb(os.getpid())["VmHWM"] > 10
