"""Bringing a database to this release's tables, with Alembic; the same migrations everywhere."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from sqlalchemy import Engine, inspect, text

from tollkeeper.errors import StoreUnavailable
from tollkeeper.outbox.database import reading, writing

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0003"
"""The newest migration; a test holds it to the scripts. Importing Alembic takes a tenth of a second."""


def migrate(engine: Engine) -> None:
    """Apply every migration that the database lacks, in one transaction; nothing when it lacks none."""
    from alembic import command

    with writing(engine) as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def is_current(engine: Engine) -> bool:
    """Whether the database has exactly this release's tables; asked without Alembic.

    Raises StoreUnavailable when it has those of a newer release.
    """
    with reading(engine) as connection:
        if not inspect(connection).has_table("alembic_version"):
            return False
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if found is not None and found > HEAD:  # they are numbered
        raise StoreUnavailable(
            f"the database's tables are those of a newer release (migration {found}, this one knows "
            f"{HEAD}): upgrade this installation"
        )
    return bool(found == HEAD)


def newest_script() -> str | None:
    """The newest migration among the scripts."""
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(files("tollkeeper.ledger") / "migrations"))
    return config
