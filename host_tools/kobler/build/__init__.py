"""Build what a board's flash gets: firmware, file system, partition table, base image."""

from .maker import build
from .output import Build

__all__ = ["Build", "build"]
