"""What the executables that stand in for load tools share: they refuse options that the tool has not, and replay recorded runs.

LLM_DOUBLE names the recorded run; LLM_DOUBLE_LOG is a file that gets one JSON object a call: the arguments, and the variables
that the tools look at.
"""

import json
import os
import sys
from pathlib import Path

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
VARIABLES = ("OPENAI_API_KEY", "HF_HUB_OFFLINE", "GUIDELLM__SPEC__BACKEND__API_KEY", "GUIDELLM__MAX_WORKER_PROCESSES")


def called(arguments):
    """Write down a call."""
    if os.environ.get("LLM_DOUBLE_LOG"):
        with open(os.environ["LLM_DOUBLE_LOG"], "a") as log:
            seen = {name: os.environ[name] for name in VARIABLES if name in os.environ}
            log.write(json.dumps({"argv": arguments, "environment": seen}) + "\n")


def options(arguments, flags, valued):
    """Return the options; what the tool does not know it refuses, as argparse and its like do."""
    found = {}
    words = iter(arguments)
    for word in words:
        if word in flags:
            found[word] = True
        elif word in valued:
            found[word] = next(words)
        else:
            sys.exit(f"error: unrecognized arguments: {word}")
    return found


def sample(name):
    """Return the text of a recorded file; empty when the run left none."""
    path = SAMPLES / name
    return path.read_text() if path.is_file() else ""


def case(default):
    """Return the recorded run to replay."""
    return os.environ.get("LLM_DOUBLE", default)
