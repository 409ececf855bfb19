#!/bin/bash
#SBATCH --job-name=afb-r-cache-0
#SBATCH --output="/project/p 1/runs/r/jobs/afb-r-cache-0/log"
#SBATCH --error="/project/p 1/runs/r/jobs/afb-r-cache-0/log"
#SBATCH --open-mode=append
#SBATCH --no-requeue
#SBATCH --export=NONE
#SBATCH --time=01:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=16384M
#SBATCH --gpus-per-node=2
#SBATCH --account=p200
#SBATCH --partition=gpu

set -eu
set +u  # what a site sets up may read variables that are not there
source /etc/profile
export SCRATCH=/scratch
module load Apptainer/1.3.6
module load 'odd name'
set -u
mkdir -p '/scratch/it'"'"'s'
LANG='C.UTF-8 x' 'A=b' 1
umask 077
export AFB_RUN_DIR='/project/p 1/runs/r'
AFB_JOB_DIR="$AFB_RUN_DIR/jobs/afb-r-cache-0"
mkdir -p "$AFB_JOB_DIR"
cat > "$AFB_JOB_DIR/spec.json.$$" <<'AFB_SPECIFICATION'
{
  "run_id": "r",
  "job": "cache",
  "token": "afb-r-cache-0",
  "role": "service",
  "kind": "stub",
  "attempt": 0,
  "ranks": 1,
  "time_s": 3600.0,
  "lease_s": 60.0,
  "node_module": "stub_node",
  "after": {},
  "monitors": {},
  "environment": {},
  "files": [],
  "fabric": {},
  "service": {
    "clients": {},
    "ready_timeout_s": 5.0,
    "bind": "127.0.0.1",
    "scheme": "tcp",
    "port": null,
    "parameters": {},
    "prepare": [],
    "model_pull": [],
    "stop_signal": "TERM",
    "stop_timeout_s": 10.0,
    "scratch": [],
    "once": false
  },
  "client": null,
  "image": null,
  "v": 1
}
AFB_SPECIFICATION
mv -f "$AFB_JOB_DIR/spec.json.$$" "$AFB_JOB_DIR/spec.json"
exec python3 "$AFB_RUN_DIR/node-0123456789abcdef.pyz" supervise "$AFB_JOB_DIR/spec.json" -- apptainer exec --nv /images/redis.sif redis-server
