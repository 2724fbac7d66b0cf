"""What a product service writes: an emitter from the environment, without any server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from metering.fake_log import usage

from tollkeeper.errors import InvalidInput, SpoolFailed
from tollkeeper.log.sqlite import SqliteLog
from tollkeeper.metering.opening import open_async_emitter, open_emitter


def _records(home: Path, partitions: int = 8) -> int:
    log = SqliteLog(home / "log.sqlite", partitions=partitions)
    try:
        return sum(log.end_offsets().values())
    finally:
        log.close()


def test_an_emitter_makes_the_home_that_the_environment_names(tmp_path: Path) -> None:
    home = tmp_path / "not" / "there" / "yet"
    with open_emitter({"TOLLKEEPER_HOME": str(home)}) as emitter:
        emitter.emit(usage(1))
        assert emitter.flush(10)
    assert _records(home) == 1


def test_an_async_emitter_does_the_same(tmp_path: Path) -> None:
    async def work() -> None:
        async with open_async_emitter({"TOLLKEEPER_HOME": str(tmp_path)}) as emitter:
            await emitter.emit(usage(1))
            assert await emitter.flush(10)

    asyncio.run(work())
    assert _records(tmp_path) == 1


def test_the_configuration_file_counts_too(tmp_path: Path) -> None:
    config = tmp_path / "tollkeeper.toml"
    config.write_text(f'home = "{tmp_path}/home"\npartitions = 3\n', encoding="utf-8")
    with open_emitter({"TOLLKEEPER_CONFIG": str(config)}) as emitter:
        emitter.emit(usage(1))
        assert emitter.flush(10)
    assert _records(tmp_path / "home", partitions=3) == 1


def test_a_wrong_setting_is_named_before_anything_is_accepted(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="TOLLKEEPER_PARTITIONS: must be 1 to 10000"):
        open_emitter({"TOLLKEEPER_HOME": str(tmp_path), "TOLLKEEPER_PARTITIONS": "many"})


@pytest.mark.parametrize(
    ("home", "why"), [("file/home", "Not a directory"), ("kept", "File exists")]
)
def test_a_spool_that_cant_be_made_is_named_with_the_next_step(
    tmp_path: Path, home: str, why: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "spool").touch()
    with (
        open_emitter({"TOLLKEEPER_HOME": str(tmp_path / home)}) as emitter,
        pytest.raises(SpoolFailed) as failed,
    ):
        emitter.emit(usage(1))
    assert f"the spool {tmp_path}/{home}/spool can't be made or written ({why})" in str(
        failed.value
    )
    assert "let this process write there, or name another TOLLKEEPER_HOME" in str(failed.value)
