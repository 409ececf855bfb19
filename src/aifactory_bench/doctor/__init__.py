"""Examining a site before a job is spent: every check says what was found, and what to do about it."""

from .examine import doctor, examine
from .findings import Diagnosis, Finding

__all__ = ["Diagnosis", "Finding", "doctor", "examine"]
