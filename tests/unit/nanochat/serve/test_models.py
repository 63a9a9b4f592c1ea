"""Models are loaded once, when they are asked for, beside whatever else happens; idle ones go."""

from __future__ import annotations

import asyncio

import pytest

from artifacts.errors import DataError, ResourceError
from nanochat.serve.api.errors import ApiError
from tests.unit.nanochat.serve.scripted import Setup, Source

REFS = ("sft/a@v1", "sft/b@v1", "base/c@v1")


def test_many_who_ask_at_once_load_it_once_and_the_loop_goes_on() -> None:
    setup = Setup(load_s=0.2)

    async def use() -> str:
        async with setup.pool.use("sft/demo") as model:
            return model.ref

    async def main() -> None:
        tasks = [asyncio.create_task(use()) for _ in range(5)]
        turns = 0
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0.005)
            turns += 1
        assert {task.result() for task in tasks} == {"sft/demo@v1"}
        assert turns > 3

    asyncio.run(main())
    assert len(setup.schedulers) == 1


def test_who_goes_away_while_it_loads_does_not_end_it_for_others() -> None:
    setup = Setup(load_s=0.1)

    async def main() -> None:
        first = asyncio.create_task(setup.pool.use("sft/demo").__aenter__())
        await asyncio.sleep(0.02)
        first.cancel()
        async with setup.pool.use("sft/demo") as model:
            assert model.users == 1

    asyncio.run(main())
    assert len(setup.schedulers) == 1


def test_an_idle_model_is_dropped_and_one_in_use_is_not() -> None:
    setup = Setup(source=Source(REFS), idle_s=0.1)

    async def main() -> None:
        dropping = asyncio.create_task(setup.pool.drop_idle())
        async with setup.pool.use("sft/a"):
            async with setup.pool.use("sft/b"):
                pass
            await asyncio.sleep(0.4)
            assert list(setup.pool.stats()) == ["sft/a@v1"]
        dropping.cancel()

    asyncio.run(main())
    assert [scheduler.closed for scheduler in setup.schedulers] == [False, True]


def test_room_is_made_by_dropping_who_was_idle_longest() -> None:
    setup = Setup(source=Source(REFS), models=2)

    async def main() -> None:
        for ref in ("sft/a", "sft/b", "sft/a", "base/c"):
            async with setup.pool.use(ref):
                pass
        assert sorted(setup.pool.stats()) == ["base/c@v1", "sft/a@v1"]
        async with setup.pool.use("sft/a"), setup.pool.use("base/c"):
            with pytest.raises(ApiError) as refusal:
                async with setup.pool.use("sft/b"):
                    pass
            assert (refusal.value.status_code, refusal.value.code) == (429, "model_busy")
        await setup.pool.close()
        assert setup.pool.stats() == {}

    asyncio.run(main())
    assert all(scheduler.closed for scheduler in setup.schedulers)


@pytest.mark.parametrize(("ref", "status"), [("sft/none", 404), ("nonsense", 404), ("", 400)])
def test_what_is_not_there(ref: str, status: int) -> None:
    async def main() -> None:
        with pytest.raises(ApiError) as refusal:
            async with Setup().pool.use(ref):
                pass
        assert refusal.value.status_code == status

    asyncio.run(main())


def test_a_model_that_is_broken_is_said_to_be_and_tried_again() -> None:
    setup, tries = Setup(), []

    def opener(folder: object, settings: object) -> object:
        tries.append(folder)
        raise DataError("config.json is damaged", "rebuild the model")

    setup.pool._open = opener  # type: ignore[assignment]

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(ApiError, match="damaged"):
                async with setup.pool.use("sft/demo"):
                    pass

    asyncio.run(main())
    assert len(tries) == 2


def test_a_name_is_no_model_until_asked_for_its_default() -> None:
    async def main() -> str:
        async with Setup(default="base/demo").pool.use("") as model:
            return model.ref

    assert asyncio.run(main()) == "base/demo@v1"


def test_a_model_is_checked_out_once_however_often_it_is_asked() -> None:
    setup = Setup()

    async def main() -> None:
        for _ in range(3):
            async with setup.pool.use("sft/demo"):
                pass
        await setup.pool.tokenizer("sft/demo")

    asyncio.run(main())
    assert setup.source.opened == ["sft/demo@v1"]


def test_what_is_in_use_or_gone_already_is_not_dropped() -> None:
    setup = Setup()

    async def main() -> None:
        async with setup.pool.use("sft/demo") as model:
            await setup.pool._drop(model)
            assert list(setup.pool.stats()) == [model.ref]
        await asyncio.gather(setup.pool._drop(model), setup.pool._drop(model))
        async with setup.pool.use("sft/demo") as again:
            pass
        await setup.pool._drop(model)
        assert list(setup.pool.stats()) == [again.ref]

    asyncio.run(main())
    assert [scheduler.closed for scheduler in setup.schedulers] == [True, False]


@pytest.mark.parametrize("method", ["resolve", "folder"])
def test_a_store_that_cannot_be_reached_is_a_503(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(self: Source, ref: str) -> None:
        raise ResourceError("s3://bucket: no answer")

    monkeypatch.setattr(Source, method, away)

    async def main() -> None:
        with pytest.raises(ApiError, match="no answer") as refusal:
            async with Setup().pool.use("sft/demo"):
                pass
        assert refusal.value.status_code == 503
        assert refusal.value.headers["Retry-After"] == "5"

    asyncio.run(main())


def test_too_little_memory_is_a_500_that_does_not_show_what_was_said() -> None:
    setup = Setup()

    def opener(folder: object, settings: object) -> object:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory at /somewhere")

    setup.pool._open = opener  # type: ignore[assignment]

    async def main() -> None:
        with pytest.raises(ApiError, match="cannot be loaded") as refusal:
            async with setup.pool.use("sft/demo"):
                pass
        assert "somewhere" not in refusal.value.detail

    asyncio.run(main())
