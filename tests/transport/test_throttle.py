import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.errors import ConfigError
from fedcore.transport.throttle import Throttle


@dataclass
class FakeTime:
    """A clock that moves only by sleeping."""

    now_s: float = 0.0
    slept: list[float] = field(default_factory=list)

    def clock(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


def _throttle(rate: float | None, time: FakeTime) -> Throttle:
    return Throttle(rate, clock=time.clock, sleep=time.sleep)


async def test_bytes_take_their_time() -> None:
    time = FakeTime()
    await _throttle(8_000_000, time).take(500_000)
    assert time.slept == [0.5]


@pytest.mark.parametrize("rate", [None, 0, 0.0])
async def test_no_limit_never_sleeps(rate: float | None) -> None:
    time = FakeTime()
    await _throttle(rate, time).take(10**12)
    assert time.slept == []


async def test_an_idle_link_gives_no_credit() -> None:
    time = FakeTime()
    throttle = _throttle(8, time)
    await throttle.take(1)
    time.now_s += 100.0
    await throttle.take(2)
    assert time.slept == [1.0, 2.0]


async def test_concurrent_takers_share_the_link() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    throttle = Throttle(8, clock=lambda: 0.0, sleep=sleep)
    await asyncio.gather(*(throttle.take(size) for size in (1, 2, 3)))
    assert waits == [1.0, 3.0, 6.0]


@settings(max_examples=30)
@given(st.lists(st.integers(0, 10**6), max_size=20), st.floats(1e3, 1e9))
def test_the_total_time_is_the_total_of_the_bytes(sizes: list[int], rate: float) -> None:
    time = FakeTime()

    async def take_all() -> None:
        throttle = _throttle(rate, time)
        for size in sizes:
            await throttle.take(size)

    asyncio.run(take_all())
    assert time.now_s == pytest.approx(sum(sizes) * 8 / rate, rel=1e-9, abs=1e-12)


async def test_the_real_clock_is_kept() -> None:
    loop = asyncio.get_running_loop()
    throttle = Throttle(8_000_000)
    start = loop.time()
    await asyncio.gather(throttle.take(20_000), throttle.take(30_000))
    assert 0.045 <= loop.time() - start < 1.0


async def test_a_cancelled_taker_does_not_block_the_next() -> None:
    throttle = Throttle(8_000)
    taker = asyncio.create_task(throttle.take(20))
    await asyncio.sleep(0)
    taker.cancel()
    await asyncio.wait_for(throttle.take(10), timeout=2)
    assert taker.cancelled()


def test_a_negative_rate_is_refused() -> None:
    with pytest.raises(ConfigError, match="got -1"):
        Throttle(-1)
