"""What a server that stops for half a second does to the report: open loop, 2000/s Poisson, 5 s, SIGSTOP in the middle.

    python benchmarks/stall.py

One request in ten is due while the server stands still, evenly spread over the half second, so that p99 from the due time must
be 450 ms or more. From sending hardly anything is to be seen: only as many requests as there are connections were under way.
"""

import os
import signal
import sys
import threading
import time

from redis_bench import measure, server

from aifactory_bench.node.load import Histogram

RATE_PER_S = 2000
WINDOW_S = 5.0
WARMUP_S = 0.5
STALL_S = 0.5


def main() -> None:
    """Run and print."""
    with server() as (process, endpoint, folder):

        def stall() -> None:
            os.kill(process.pid, signal.SIGSTOP)
            time.sleep(STALL_S)
            os.kill(process.pid, signal.SIGCONT)

        load = {"process": "poisson", "rate_per_s": RATE_PER_S, "warmup_s": WARMUP_S, "duration_s": WINDOW_S, "timeout_s": 5.0}
        timer: list[threading.Timer] = []

        def stop() -> None:
            # Asked for the first time as the measurement begins.
            if not timer:
                timer.append(threading.Timer(WARMUP_S + WINDOW_S / 2, stall))
                timer[0].start()

        result, _ = measure(endpoint, folder, load, {"get": 10, "set": 1}, stop=stop)
        timer[0].join()
    latency = {clock: Histogram.from_json(data) for clock, data in result.latency["all"].items()}
    gate, lateness = (Histogram.from_json(data) for data in (result.health.gate, result.health.lateness))
    print(f"load average {os.getloadavg()[0]:.2f}; {result.counts}, errors {result.errors}")
    print("                 p50 ms    p99 ms    max ms")
    for name, histogram in (("from schedule", latency["schedule"]), ("from sending", latency["send"]), ("gate", gate)):
        values = [(histogram.percentile_us(percent) or 0) / 1000 for percent in (50, 99, 100)]
        print(f"{name:14}", *(f"{value:9.2f}" for value in values))
    # DEL(f"{value:10.2f}" for value in values))
    lateness_ms = (lateness.percentile_us(99) or 0) / 1000
    print(f"lateness of the generator p99: {lateness_ms:.3f} ms; CPU {result.health.cpu_share[0]:.0%}")
    scheduled_per_s = sum(vars(result.counts).values()) / result.window_s
    print(f"asked {RATE_PER_S}/s, drawn {scheduled_per_s:.1f}/s, achieved {result.achieved_per_s:.1f}/s")
    good = (latency["schedule"].percentile_us(99) or 0) >= 450_000 and result.achieved_per_s >= 0.98 * scheduled_per_s
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
