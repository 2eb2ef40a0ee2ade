"""Which configuration and which history database a command works with."""

import os
from pathlib import Path

from sqlalchemy import URL

from exporter.config import Config, load
from exporter.detect import detect
from history.db.database import default_url, parse_url


def configuration(config_file: Path | None) -> Config:
    """Read the configuration; without one, take the schedulers whose commands are on PATH. Raises ConfigError."""
    return detect() if config_file is None else load(config_file)


def database_url(config: Config, database: str | None, default: str | None = None) -> URL:
    """Give the database: the flag's, the configuration's, $BBQ_DATABASE, or the default. Raises HistoryError."""
    named = database or config.history.database or default or os.environ.get("BBQ_DATABASE") or default_url()
    return parse_url(named, config.history.password_file)
