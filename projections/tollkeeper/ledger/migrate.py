"""Bringing a database to this release's tables, with Alembic; the same migrations everywhere."""

from __future__ import annotations

from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from tollkeeper.outbox.database import reading, writing


def migrate(engine: Engine) -> None:
    """Apply every migration that the database lacks, in one transaction; nothing when it lacks none."""
    with writing(engine) as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def is_current(engine: Engine) -> bool:
    """Whether the database has exactly this release's tables."""
    with reading(engine) as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    return found == ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("tollkeeper.ledger") / "migrations"))
    return config
