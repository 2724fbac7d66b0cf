"""Bringing a database to this release's tables, with Alembic; the same migrations everywhere."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from tollkeeper.outbox.database import reading, writing

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0001"
"""The newest migration; a test holds it to the scripts. Importing Alembic takes a tenth of a second."""


def migrate(engine: Engine) -> None:
    """Apply every migration that the database lacks, in one transaction; nothing when it lacks none."""
    from alembic import command

    with writing(engine) as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def is_current(engine: Engine) -> bool:
    """Whether the database has exactly this release's tables."""
    from alembic.runtime.migration import MigrationContext

    with reading(engine) as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    return found == HEAD


def newest_script() -> str | None:
    """The newest migration among the scripts."""
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(files("tollkeeper.ledger") / "migrations"))
    return config
