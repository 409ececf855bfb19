"""What a controller costs, and how quick it is, with many jobs on a Slurm site that is reached over SSH.

    python benchmarks/slurm_scale.py polls         1, 100 and 5,000 tracked jobs: calls of squeue, bytes, CPU, memory
    python benchmarks/slurm_scale.py throughput    submissions a second over a line with 40 ms round trip
    python benchmarks/slurm_scale.py drop          how soon a dead network is noticed, and its return
    python benchmarks/slurm_scale.py restart       how soon a new controller knows 1,000 jobs again

Several names, or `all`. Slurm is simulated (FakeSlurm behind an SSH server); `throughput` and `drop` use the real one of
`tests/slurm/bed`, too, as root and where its packages are installed. Login node and controller are processes of their own.
In `polls` the controller's time is virtual: it jumps over waits, so that a quarter of an hour takes seconds.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from slurm_scale_bed import ALIAS, LATER, Bed, real_is_missing
from slurm_scale_run import RUN_ID, make_plan, put_on_site, state_of, write_plan

CONTROLLER = Path(__file__).with_name("slurm_scale_controller.py")
LIMIT_S = 3600.0
BARS = {
    "steady": 2.0,
    "busy": 12.0,
    "bytes": 100.0,
    "cpu": 0.05,
    "rss_mb": 150.0,
    "bulk": 40.0,
    "channels": 0.1,
    "channels_single": 1.0,
    "noticed_s": 30.0,
    "fresh_s": 5.0,
    "restart_s": 3.0,
    "restart_squeue": 1.0,
}
AT_LEAST = {"bulk"}
DELAY_S = 0.02
"""Each way."""
STEADY_S = 600.0
EASING_S = 300.0
"""After this time without a change the pause between polls is the longest."""
STIR_S = 70.0
"""After this time everything has changed from steady to busy."""
BUSY_S = 120.0
WAITING = {"running": 0.5, "pending": 0.5}
LEFT = {"running": 0.5, "ended": 0.4, "gone": 0.1}
CPUS = 4

missed: "list[str]" = []


def bar(name, value, text, label, slack=0.0):
    """Return a figure with its bar, and note one that is missed; slack: a window may begin or end at an event."""
    least = name in AT_LEAST
    good = value >= BARS[name] if least else value <= BARS[name] + slack
    if not good:
        missed.append(f"{label}: {text}, bar {BARS[name]:g}")
    return f"{text} (bar at {'least' if least else 'most'} {BARS[name]:g}{'' if good else ', MISSED'})"


def say(text=""):
    print(text, flush=True)


def control(role, bed, **settings):
    """Run a controller in a process of its own and return its answer."""
    argv = [sys.executable, str(CONTROLLER), role, json.dumps({"bed": str(bed.folder), "runs": bed.runs, **settings})]
    environment = {**os.environ, "HOME": str(bed.home), "XDG_CONFIG_HOME": str(bed.home / "config")}
    environment.pop("SSH_AUTH_SOCK", None)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        try:
            process.wait(LIMIT_S)  # what it prints fits into the pipe
            out = process.stdout.read()
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise SystemExit(f"the controller ended with {process.returncode}")
    return json.loads(out.splitlines()[-1])


# polls


def polls(folder, options):
    most = max(jobs for jobs, _ in options.jobs)
    for jobs, runs in options.jobs:
        one = _polls(folder, jobs, runs)
        steady, busy = one["steady"], one["busy"]
        label = f"{jobs} jobs in {runs} run{'s' if runs > 1 else ''}"
        rates = []
        for name, part in (("steady", steady), ("busy", busy)):
            rate = 60 * part["squeue"] / part["virtual_s"]
            rates.append(bar(name, rate, f"{rate:.2f} squeue a minute {name}", label, slack=0.2))
        down, up = (steady[way] / steady["polls"] / jobs for way in ("down", "up"))
        size = f"{down:.1f} bytes down and {up:.1f} up a job and poll, {down + up:.1f} together"
        share = steady["cpu_s"] / steady["virtual_s"]
        cpu, memory = f"{share:.2%} of a core steady", f"{one['rss_mb']:.0f} MB now"
        if jobs == most:
            size = bar("bytes", down + up, size, label)
            cpu, memory = bar("cpu", share, cpu, label), bar("rss_mb", one["rss_mb"], memory, label)
        say(f"{label}, {one['states']}:")
        say(f"  {', '.join(rates)}")
        say(f"  {size}")
        say(
            f"  CPU of the controller {steady['cpu_s'] / steady['polls']:.3f} s a poll, {cpu}, "
            f"{busy['cpu_s'] / busy['virtual_s']:.2%} busy"
        )
        say(
            f"  a poll: {median(steady['answered_s']):.2f} s until it is answered, "
            f"{median(steady['handled_s']):.3f} s until the answer is handled; memory {memory}, {one['peak_mb']:.0f} MB at most"
        )
    say(
        f"steady: {STEADY_S:g} s of virtual time after {EASING_S:g} s without a change; "
        f"busy: {BUSY_S:g} s in which each poll brings an event"
    )


def _polls(folder, jobs, runs):
    with Bed(folder / "bed", nodes=max(1, -(-jobs // CPUS))) as bed:
        folders, changing = [], None
        for number in range(runs):
            plan = make_plan(RUN_ID.format(number), jobs // runs, runs=bed.runs)
            there = put_on_site(bed, plan, WAITING)
            here = folder / f"controller-{jobs}-{runs}" / plan.run_id
            write_plan(here, plan)
            folders.append(str(here))
            changing = changing or str(there / f"jobs/{plan.jobs[0].token}/0/events.jsonl")
        del plan
        times = {"steady_s": STEADY_S, "easing_s": EASING_S, "stir_s": STIR_S, "busy_s": BUSY_S, "stagger_s": 7.0}
        return control("polls", bed, folders=folders, changing=changing, **times)


# throughput


def throughput(folder, options):
    for real in (False, True):
        reason = real_is_missing() if real else ""
        name = "real Slurm and sshd" if real else "FakeSlurm, in-process SSH server"
        if reason:
            say(f"{name}: left out: {reason}")
            continue
        with Bed(folder / "bed", delay_s=DELAY_S, real=real) as bed:
            folders = {}
            counts = {"bulk": options.submissions, "single": options.submissions // 10, "engine": options.submissions // 2}
            for number, (kind, jobs) in enumerate(counts.items()):
                later = {"begin": LATER} if real else {}
                plan = make_plan(RUN_ID.format(number), jobs, runs=bed.runs, options=later)
                folders[kind] = str(folder / f"throughput-{real}" / plan.run_id)
                write_plan(Path(folders[kind]), plan)
            found = control("throughput", bed, **folders, engine_limit_s=120.0)
        alone = f"sbatch alone takes {found['sbatch_ms']:.1f} ms a call there"
        if found["sbatch_cpu_s"] is not None:
            alone += f", {1000 * found['sbatch_cpu_s'] / found['sbatch_calls']:.1f} ms of it CPU"
        say(f"{name}; {alone}")
        for kind in counts:
            one = found[kind]
            jobs = max(1, one["jobs"])
            label = f"{name}, {kind}"
            rate, channels = f"{jobs / one['took_s']:.1f} jobs/s", f"{one['channels'] / jobs:.3f} channels a job"
            if kind == "single":
                channels = bar("channels_single", one["channels"] / jobs, channels, label)
            else:
                rate = bar("bulk", jobs / one["took_s"], rate, label)
                channels = bar("channels", one["channels"] / jobs, channels, label)
            cpu = f"CPU a job {one['cpu_s'] / jobs * 1000:.1f} ms here"
            if one["site_cpu_s"] is not None:
                channels += f", {one['site_sessions']} sessions at the server"
                cpu += f" and {one['site_cpu_s'] / jobs * 1000:.1f} ms on the login node"
            say(f"  {kind}: {one['jobs']} jobs in {one['took_s']:.2f} s: {rate}, {channels}, {cpu}")
    say("bulk: the submitter is given all jobs; engine: it is the engine that gives them, and polls between")


# drop


def drop(folder, options):
    for packets in (False, True):
        reason = real_is_missing() if packets else ""
        name = "packets to a real sshd are lost" if packets else "a proxy carries nothing any more"
        if reason:
            say(f"{name}: left out: {reason}")
            continue
        with Bed(folder / "bed", nodes=25, real=packets, direct=packets) as bed:
            plan = make_plan(RUN_ID.format(0), 8 if packets else 100, runs=bed.runs, lease_s=40.0)
            here = folder / f"drop-{packets}" / plan.run_id
            write_plan(here, plan)
            if packets:
                _put_on_real_site(bed, plan)
            else:
                put_on_site(bed, plan, WAITING)
            how = {"break": "cut", "mend": "restore"} if packets else {"break": "freeze", "mend": "thaw"}
            outages_s = [2.0, 5.0, 9.0, 14.0, 20.0]
            found = control("drop", bed, folder=str(here), trials=options.trials, spread_s=5.0, outages_s=outages_s, **how)
        trials = found["trials"]
        lost_s, fresh_s = (median(trial[key] for trial in trials) for key in ("lost_s", "fresh_s"))
        lost = bar("noticed_s", lost_s, f"{lost_s:.1f} s", f"{name}, given up")
        fresh = bar("fresh_s", fresh_s, f"{fresh_s:.2f} s", f"{name}, fresh")
        told = [trial["told_s"] for trial in trials if trial["told_s"] is not None]
        said = f"said to the user in {len(told)} of {len(trials)}" + (f", after {median(told):.1f} s" if told else "")
        say(f"{name}; {len(trials)} trials, polls every 5 s, medians:")
        say(f"  connection given up after {lost}, worst {max(trial['lost_s'] for trial in trials):.1f} s; {said}")
        say(f"  fresh snapshot after the network's return: {fresh}, worst {max(trial['fresh_s'] for trial in trials):.2f} s")
        say("  outage s -> fresh s: " + ", ".join(f"{one['outage_s']:.0f} -> {one['fresh_s']:.2f}" for one in trials))
        say("  said: " + (found["warnings"][0] if found["warnings"] else "nothing"))


def _put_on_real_site(bed, plan):
    """Put a run onto the real site by way of its files' place here; its jobs wait for another day."""
    # The run's folder belongs to who logs in there, so that the site's own programs make it.
    argv = ["ssh", "-F", str(bed.home / ".ssh/config"), ALIAS]
    subprocess.run([*argv, f"mkdir -p {bed.runs}/{plan.run_id}/jobs"], check=True, timeout=60)
    ids = bed.ask("submit", names=[job.token for job in plan.jobs], state="pending")
    lines = f"cd {bed.runs}/{plan.run_id}/jobs\n" + "".join(
        f"mkdir {job.token} && echo {job_id} > {job.token}/job_id\n" for job, job_id in zip(plan.jobs, ids, strict=True)
    )
    subprocess.run([*argv, "sh"], input=lines.encode(), check=True, timeout=60)


# restart


def restart(folder, options):
    for name, delay_s in (("no delay", 0.0), (f"{2000 * DELAY_S:g} ms round trip", DELAY_S)):
        with Bed(folder / "bed", nodes=-(-options.restart_jobs // CPUS), delay_s=delay_s) as bed:
            plan = make_plan(RUN_ID.format(0), options.restart_jobs, runs=bed.runs)
            there = put_on_site(bed, plan, LEFT)
            states = {
                job.name: "running" if state_of(number, len(plan.jobs), LEFT) == "running" else "completed"
                for number, job in enumerate(plan.jobs)
            }
            size = sum(path.stat().st_size for path in there.glob("jobs/*/**/*") if path.is_file()) / 1e6
            profile = bed.home / "scale.yaml"
            profile.write_text(
                f"schema: aifactory-bench/site/1\nname: scale\nlogin: {{host: {ALIAS}}}\nruns: {bed.runs}\nruntime: host\n"
            )
            say(f"{len(plan.jobs)} jobs ({LEFT}), {size:.1f} MB of files; {name}")
            for kind in ("run known here", "never seen here"):
                label = f"restart, {name}, {kind}"
                runs_dir = folder / f"restart-{delay_s}-{kind.replace(' ', '-')}"
                runs_dir.mkdir()
                if kind == "run known here":
                    write_plan(runs_dir / plan.run_id, plan)
                found = control(
                    "restart", bed, profile=str(profile), runs_dir=str(runs_dir), run_id=plan.run_id, states=states,
                    site_folder=str(there), files_limit_s=90.0,
                )  # fmt: skip
                took = bar("restart_s", found["took_s"], f"{found['took_s']:.2f} s", label)
                squeue = bar("restart_squeue", found["squeue"], f"{found['squeue']} squeue", label)
                say(f"  {kind}: {found['known']} reconciled in {took}, {squeue}, {found['wrong']} wrong; attach returned after "
                    f"{found['attached_s']:.2f} s, CPU {found['cpu_s']:.2f} s here and "
                    f"{found['site_cpu_s']:.2f} s on the login node")  # fmt: skip
                say(f"    all {found['files']} files after {found['files_s']:.1f} s: {found['files_missing']} missing "
                    f"{found['missing'] or ''}, {found['files_squeue']} squeue, CPU {found['files_cpu_s']:.1f} s, "
                    f"peak {found['peak_mb']:.0f} MB")  # fmt: skip
                if found["wrong"] or found["files_missing"]:
                    missed.append(f"{label}: {found['wrong']} states wrong, {found['files_missing']} files missing")


MEASUREMENTS = {"polls": polls, "throughput": throughput, "drop": drop, "restart": restart}


def main():
    """Measure, print, and end with 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=[*MEASUREMENTS, "all"])
    parser.add_argument("--jobs", nargs="+", default=["1", "100", "5000", "8x625"], help="tracked by `polls`; 8x625: in 8 runs")
    parser.add_argument("--submissions", type=int, default=400, help="of `throughput` in bulk")
    parser.add_argument("--trials", type=int, default=5, help="of `drop`")
    parser.add_argument("--restart-jobs", type=int, default=1000)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that everything is ended
    shapes = [(int(runs or 1), int(each)) for runs, _, each in (text.rpartition("x") for text in options.jobs)]
    options.jobs = [(runs * each, runs) for runs, each in shapes]
    with tempfile.TemporaryDirectory(prefix="slurm-scale-") as name:
        for measurement in MEASUREMENTS if "all" in options.names else options.names:
            folder = Path(name) / measurement
            folder.mkdir()
            say(f"{measurement}: load average {os.getloadavg()[0]:.2f} before")
            MEASUREMENTS[measurement](folder, options)
            say(f"load average {os.getloadavg()[0]:.2f} after\n")
    for text in missed:
        say(f"missed: {text}")
    raise SystemExit(bool(missed))


if __name__ == "__main__":
    main()
