"""`JobFactory`: entries of a recipe become jobs, a recipe becomes a plan."""

from .job_factory import JobFactory

__all__ = ["JobFactory"]
