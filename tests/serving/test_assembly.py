"""What surrounds the life of an application."""

import asyncio
import gc

from fastapi import FastAPI

from serving.assembly import lifespan_of


def test_what_lives_as_long_as_the_application_is_not_collected_meanwhile() -> None:
    said: list[str] = []
    lifespan = lifespan_of(start=lambda: said.append("start"), close=lambda: said.append("close"))

    async def live() -> int:
        async with lifespan(FastAPI()):
            return gc.get_freeze_count()

    assert asyncio.run(live()) > 0
    assert said == ["start", "close"]
    assert gc.get_freeze_count() == 0
