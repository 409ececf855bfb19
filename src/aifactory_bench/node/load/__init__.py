"""The load core: one scheduler, recorder and histogram for all products. A product implements `Driver` and `Protocol`."""

from .driver import ALL, Batch, Driver, Later, Onward, Outcome, Outcomes, Protocol, ProtocolError, RefusedError
from .histogram import Histogram
from .run import run_load
from .schedule import arrivals

__all__ = [
    "ALL",
    "Batch",
    "Driver",
    "Histogram",
    "Later",
    "Onward",
    "Outcome",
    "Outcomes",
    "Protocol",
    "ProtocolError",
    "RefusedError",
    "arrivals",
    "run_load",
]
