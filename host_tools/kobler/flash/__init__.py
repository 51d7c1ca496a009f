"""Write a build into a board's flash."""

from .writer import flash

__all__ = ["flash"]
