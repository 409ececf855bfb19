"""Benchmark AI services from one recipe: public names, imported when they are first used."""

TYPE_CHECKING = False  # `typing` takes longer to import than all of this
if TYPE_CHECKING:
    from typing import Any

    from .calibration import calibrate
    from .errors import (
        AifactoryBenchError,
        LockedError,
        PluginError,
        RecipeError,
        RunError,
        SiteError,
        SubmitError,
        UsageError,
    )
    from .factory import JobFactory
    from .hookspecs import hookimpl
    from .images.api import AsyncImages, Images
    from .jobs.base import BaseJob
    from .jobs.client import Client
    from .jobs.service import Service
    from .jobs.target import Target
    from .orchestrator import AsyncBenchmarkOrchestrator
    from .plan import Plan, PlannedJob, PlannedPoint
    from .plugins import Registry, load_registry
    from .recipe.load import load_recipe
    from .recipe.load_model import Load, RateStep
    from .recipe.model import ClientEntry, Ready, Recipe, Resources, ServiceEntry
    from .recipe.search_model import Search
    from .report.text import Report
    from .report.vllm_dialect import export_vllm_bench
    from .results.model import Summary
    from .script.commands import (
        BIND,
        FOLDER,
        HOST,
        PORT,
        RANK,
        RAW,
        SECRET,
        SEED,
        Argument,
        Command,
        Endpoint,
        File,
        Joined,
        Placeholder,
    )
    from .script.value import Script
    from .sites.load import load_site
    from .sites.model import Site
    from .sync import BenchmarkOrchestrator
    from .units import DurationS, RatePerS, Share, SizeBytes

_PLACES = {
    "calibration": ("calibrate",),
    "errors": (
        "AifactoryBenchError",
        "LockedError",
        "PluginError",
        "RecipeError",
        "RunError",
        "SiteError",
        "SubmitError",
        "UsageError",
    ),
    "factory": ("JobFactory",),
    "hookspecs": ("hookimpl",),
    "images.api": ("AsyncImages", "Images"),
    "jobs.base": ("BaseJob",),
    "jobs.client": ("Client",),
    "jobs.service": ("Service",),
    "jobs.target": ("Target",),
    "orchestrator": ("AsyncBenchmarkOrchestrator",),
    "plan": ("Plan", "PlannedJob", "PlannedPoint"),
    "plugins": ("Registry", "load_registry"),
    "recipe.load": ("load_recipe",),
    "recipe.load_model": ("Load", "RateStep"),
    "recipe.model": ("ClientEntry", "Ready", "Recipe", "Resources", "ServiceEntry"),
    "recipe.search_model": ("Search",),
    "report.text": ("Report",),
    "report.vllm_dialect": ("export_vllm_bench",),
    "results.model": ("Summary",),
    "script.commands": (
        "Argument",
        "BIND",
        "Command",
        "Endpoint",
        "FOLDER",
        "File",
        "HOST",
        "Joined",
        "PORT",
        "Placeholder",
        "RANK",
        "RAW",
        "SECRET",
        "SEED",
    ),
    "script.value": ("Script",),
    "sites.load": ("load_site",),
    "sites.model": ("Site",),
    "sync": ("BenchmarkOrchestrator",),
    "units": ("DurationS", "RatePerS", "Share", "SizeBytes"),
}
_PLACE_OF = {name: module for module, names in _PLACES.items() for name in names}

__all__ = [
    "BIND",
    "FOLDER",
    "HOST",
    "PORT",
    "RANK",
    "RAW",
    "SECRET",
    "SEED",
    "AifactoryBenchError",
    "Argument",
    "AsyncBenchmarkOrchestrator",
    "AsyncImages",
    "BaseJob",
    "BenchmarkOrchestrator",
    "Client",
    "ClientEntry",
    "Command",
    "DurationS",
    "Endpoint",
    "File",
    "Images",
    "JobFactory",
    "Joined",
    "Load",
    "LockedError",
    "Placeholder",
    "Plan",
    "PlannedJob",
    "PlannedPoint",
    "PluginError",
    "RatePerS",
    "RateStep",
    "Ready",
    "Recipe",
    "RecipeError",
    "Registry",
    "Report",
    "Resources",
    "RunError",
    "Script",
    "Search",
    "Service",
    "ServiceEntry",
    "Share",
    "Site",
    "SiteError",
    "SizeBytes",
    "SubmitError",
    "Summary",
    "Target",
    "UsageError",
    "calibrate",
    "export_vllm_bench",
    "hookimpl",
    "load_recipe",
    "load_registry",
    "load_site",
]


def __getattr__(name: str) -> "Any":
    from importlib import import_module

    try:
        module = _PLACE_OF[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
