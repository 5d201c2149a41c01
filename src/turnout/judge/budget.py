"""Money that attempts reserve before they are sent, and spend at most."""

from __future__ import annotations

import asyncio


class Budget:
    """What may still be spent.

    Args:
        limit_usd: What may be spent in all; None for no limit.
        spent_usd: What was spent before.
    """

    def __init__(self, limit_usd: float | None, spent_usd: float) -> None:
        self._limit_usd = limit_usd
        self._spent_usd = spent_usd
        self._reserved_usd = 0.0
        self._in_flight = 0
        self._settled = asyncio.Condition()

    @property
    def spent_usd(self) -> float:
        """What was spent in all, without reservations."""
        return self._spent_usd

    async def reserve(self, usd: float) -> bool:
        """Reserve what an attempt costs at most, once it fits.

        Waits while attempts in flight may still release money. False where it will not fit.
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
