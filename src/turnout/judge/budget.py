"""A budget: an attempt reserves its highest cost before it is sent, then pays its true cost."""

from __future__ import annotations

import asyncio


class Budget:
    """What may still be spent, in USD.

    Args:
        limit_usd: The most that may be spent in total; None for no limit.
        spent_usd: Spent by earlier runs.
    """

    def __init__(self, limit_usd: float | None, spent_usd: float) -> None:
        self._limit_usd = limit_usd
        self._spent_usd = spent_usd
        self._reserved_usd = 0.0
        self._in_flight = 0
        self._settled = asyncio.Condition()

    @property
    def spent_usd(self) -> float:
        """Spent in total, without reservations."""
        return self._spent_usd

    async def reserve(self, usd: float) -> bool:
        """Reserve the highest cost of an attempt, once it fits.

        Waits while attempts in flight may still release money. Returns False if it will not fit.
        """
        async with self._settled:
            while not self._fits(usd):
                if self._in_flight == 0:
                    return False
                await self._settled.wait()
            self._in_flight += 1
            self._reserved_usd += usd
            return True

    async def settle(self, reserved_usd: float, cost_usd: float) -> None:
        """End an attempt: spend its cost and release the rest of its reservation."""
        async with self._settled:
            self._in_flight -= 1
            # Exactly 0 when nothing is in flight: rounding errors must not add up.
            self._reserved_usd = self._reserved_usd - reserved_usd if self._in_flight else 0.0
            self._spent_usd += cost_usd
            self._settled.notify_all()

    def _fits(self, usd: float) -> bool:
        if self._limit_usd is None:
            return True
        return self._spent_usd + self._reserved_usd + usd <= self._limit_usd
