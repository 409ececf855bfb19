#!/bin/bash
#SBATCH --job-name=afb-r-load-0
#SBATCH --output=/runs/r/jobs/afb-r-load-0/log
#SBATCH --error=/runs/r/jobs/afb-r-load-0/log
#SBATCH --open-mode=append
#SBATCH --no-requeue
#SBATCH --export=NONE
#SBATCH --time=00:10:00
#SBATCH --signal=B:USR1@120
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --ntasks-per-node=1

set -eu
umask 077
export AFB_RUN_DIR=/runs/r
AFB_JOB_DIR="$AFB_RUN_DIR/jobs/afb-r-load-0"
mkdir -p "$AFB_JOB_DIR"
cat > "$AFB_JOB_DIR/spec.json.$$" <<'AFB_SPECIFICATION'
{
  "run_id": "r",
  "job": "load",
  "token": "afb-r-load-0",
  "role": "client",
  "kind": "stub",
  "attempt": 0,
  "ranks": 1,
  "time_s": 600.0,
  "lease_s": 60.0,
  "node_module": "stub_node",
  "after": {
    "afb-r-first-0": 1
  },
  "monitors": {},
  "environment": {
    "NAME": "a@@b"
  },
  "files": [],
  "fabric": {},
  "service": null,
  "client": {
    "targets": {
      "main": {
        "service": "cache",
        "token": "afb-r-cache-0",
        "replicas": 1,
        "parameters": {},
        "url": null,
        "node_module": null,
        "has_secret": false
      }
    },
    "points": [
      {
        "id": "p0000-r1",
        "repetition": 1,
        "reset": "none",
        "parameters": {
          "keys": 10
        },
        "load": {
          "process": "closed",
          "concurrency": 50
        },
        "participants": {
          "afb-r-load-0": 2
        },
        "commands": [
          [
            "redis-benchmark",
            "-h",
            "@{endpoint.main.0.host}"
          ]
        ],
        "budget_s": 60.0
      }
    ],
    "wait_timeout_s": 60.0,
    "mode": "tool"
  },
  "image": null,
  "v": 1
}
AFB_SPECIFICATION
mv -f "$AFB_JOB_DIR/spec.json.$$" "$AFB_JOB_DIR/spec.json"
exec python3 "$AFB_RUN_DIR/node-0123456789abcdef.pyz" supervise "$AFB_JOB_DIR/spec.json"
