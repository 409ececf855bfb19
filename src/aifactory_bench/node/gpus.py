"""The GPUs of a node, as `nvidia-smi` and `rocm-smi` tell of them."""

import json
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

_NVIDIA = (
    "index",
    "name",
    "uuid",
    "pci.bus_id",
    "driver_version",
    "memory.total",
    "memory.used",
    "clocks.sm",
    "clocks.mem",
    "clocks.max.sm",
    "clocks.max.mem",
    "power.limit",
)
PROGRAMS: Mapping[str, Sequence[str]] = {
    "nvidia-smi": ("nvidia-smi", f"--query-gpu={','.join(_NVIDIA)}", "--format=csv,noheader,nounits"),
    "rocm-smi": (
        *("rocm-smi", "--showproductname", "--showuniqueid", "--showbus", "--showdriverversion"),
        *("--showmeminfo", "vram", "--showclocks", "--showmaxpower", "--json"),
    ),
}
"""Name -> what is asked; their outputs are what `gpus` takes."""
_MIB = 1 << 20


def gpus(outputs: Mapping[str, Tuple[Optional[str], str]]) -> Tuple[List[Dict[str, Any]], str]:
    """Return the GPUs and, where there are none, why.

    A GPU has `index`, `name`, `uuid`, `pci_bus_id`, `driver_version`, `memory_bytes`, `memory_used_bytes`, `sm_clock_mhz`,
    `memory_clock_mhz`, `sm_clock_max_mhz`, `memory_clock_max_mhz`, `power_limit_watts`; None is what its program does not
    tell. Clocks and used memory are those of the moment.

    Args:
        outputs: name of a program -> what it printed, or None and why there is nothing.
    """
    readers = {"nvidia-smi": _nvidia, "rocm-smi": _rocm}
    reasons = []
    for name, read in readers.items():
        output, problem = outputs[name]
        found = [] if output is None else read(output)
        if found:
            return found, ""
        reasons.append(problem or f"{name} tells of none")
    return [], "; ".join(reasons)


def _nvidia(output: str) -> List[Dict[str, Any]]:
    found = []
    for line in output.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != len(_NVIDIA):
            continue
        of = dict(zip(_NVIDIA, fields))
        found.append(
            {
                "index": of["index"],
                "name": of["name"],
                "uuid": of["uuid"],
                "pci_bus_id": _text(of["pci.bus_id"]),
                "driver_version": _text(of["driver_version"]),
                "memory_bytes": _whole(of["memory.total"], _MIB),
                "memory_used_bytes": _whole(of["memory.used"], _MIB),
                "sm_clock_mhz": _whole(of["clocks.sm"]),
                "memory_clock_mhz": _whole(of["clocks.mem"]),
                "sm_clock_max_mhz": _whole(of["clocks.max.sm"]),
                "memory_clock_max_mhz": _whole(of["clocks.max.mem"]),
                "power_limit_watts": _number(of["power.limit"]),
            }
        )
    return found


def _rocm(output: str) -> List[Dict[str, Any]]:
    try:
        document = json.loads(output[output.index("{") :])  # warnings may stand in front
    except ValueError:
        return []
    cards = {name: _lower(card) for name, card in document.items() if isinstance(card, dict)}
    driver = cards.pop("system", {}).get("driver version")
    return [
        {
            "index": name[len("card") :],
            # A series is a name on newer releases, and a number on older ones, where the model is one.
            "name": card.get("card series") or card.get("card model"),
            "uuid": card.get("unique id"),
            "pci_bus_id": card.get("pci bus"),
            "driver_version": driver,
            "memory_bytes": _whole(card.get("vram total memory (b)")),
            "memory_used_bytes": _whole(card.get("vram total used memory (b)")),
            "sm_clock_mhz": _clock(card.get("sclk clock speed:")),
            "memory_clock_mhz": _clock(card.get("mclk clock speed:")),
            "sm_clock_max_mhz": None,
            "memory_clock_max_mhz": None,
            "power_limit_watts": _number(card.get("max graphics package power (w)")),
        }
        for name, card in cards.items()
        if name.startswith("card")
    ]


def _lower(card: Mapping[str, Any]) -> Dict[str, str]:
    """Return a card's fields: releases write the same names with small or large letters."""
    return {name.lower(): str(value) for name, value in card.items()}


def _text(field: str) -> Optional[str]:
    return None if field.startswith("[") else field  # `[N/A]`, `[Not Supported]`


def _number(field: Optional[str]) -> Optional[float]:
    try:
        return float(field or "")
    except ValueError:
        return None


def _whole(field: Optional[str], unit: int = 1) -> Optional[int]:
    return int(field) * unit if field is not None and field.isdigit() else None


def _clock(field: Optional[str]) -> Optional[int]:
    """Return the number of `(1502Mhz)`."""
    return _whole((field or "").strip("()").lower().replace("mhz", ""))
