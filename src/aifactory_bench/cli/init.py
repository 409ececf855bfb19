"""`init`: a profile for a new cluster, made by asking and by looking."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import AifactoryBenchError, RecipeError, UsageError
from .messages import explain, folded, note, show_error

if TYPE_CHECKING:
    from ..site_setup import Answers, Cluster
    from ..sites.model import Login
    from ..transports.trust import HostKey

_TRANSPORTS = ("ssh", "openssh", "local")
_ACCESS = 4


@click.command()
@click.argument("name", required=False)
@click.option("--host", metavar="HOST", help="Login node, or a Host of ~/.ssh/config.")
@click.option(
    "--port", type=click.IntRange(1, 65535), metavar="PORT", help="Its port.  [default: as ~/.ssh/config says, else 22]"
)
@click.option("--user", metavar="USER", help="Who logs in.  [default: as ~/.ssh/config says]")
@click.option("--jump", metavar="HOST", help="[USER@]HOST[:PORT] to go through.")
@click.option("--transport", type=click.Choice(_TRANSPORTS), help="How one gets there.  [default: ssh]")
@click.option("--account", metavar="NAME", help="Account of jobs.")
@click.option("--partition", metavar="NAME", help="Partition of jobs.")
@click.option("--qos", metavar="NAME", help="QOS of jobs.")
@click.option("--runs", metavar="FOLDER", help="Folder for run folders, shared by login node and compute nodes.")
@click.option("--runtime", type=click.Choice(("apptainer", "singularity", "host")), help="What runs images.")
@click.option("--yes", is_flag=True, help="Ask nothing: take what is proposed, pin the host key that is shown, run no doctor.")
def command(name: str | None, yes: bool, **flags: Any) -> int:
    """Describe a new cluster: ask, look at it, and write its profile.

    What is not given is asked for, with what the cluster shows as proposal. The profile is written to your settings, and a
    file that is there already is replaced only after a yes. For a site whose profile is shipped only your own part is asked.
    """
    from ..sites.settings import NAME, config_folder

    name = name or (None if yes else click.prompt("Name of the site, such as mycluster", err=True))
    if name is None:
        raise UsageError("init needs a name where nothing is asked", "aifactory-bench init NAME --host HOST --yes")
    if not NAME.fullmatch(name) or name == "local":
        raise UsageError(
            f"{name!r} is no name for a site", "use at most 31 small letters, digits and hyphens, a letter first, and not local"
        )
    path = config_folder() / "sites" / f"{name}.yaml"
    if path.exists() and not _agreed(f"{path} is there already. Replace it?"):
        note(f"{path}: left as it is")
        return 1
    extends = _shipped(name)
    login = _login(extends, flags, yes=yes)
    if login.transport != "local" and not _known(name, login, yes=yes):
        return _ACCESS
    cluster = _look(name, login)
    _tell(cluster)
    answers = _answers(name, login, extends, cluster, flags, yes=yes)
    _write(path, cluster, answers)
    click.echo(folded(f"written: {path}"))
    if yes or not click.confirm("Run doctor now?", default=True, err=True):
        click.echo(f"next: aifactory-bench doctor --site {name} --job")
        return 0
    return _doctor(name, job=click.confirm("With a short job that looks at a node?", default=True, err=True))


def _agreed(question: str) -> bool:
    """Ask; where nobody is there to answer, it is no."""
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        return False


def _shipped(name: str) -> str:
    """Return the name where there is a shipped profile of it."""
    from ..sites.settings import shipped_path

    return name if shipped_path(name).is_file() else ""


def _login(extends: str, flags: "dict[str, Any]", *, yes: bool) -> "Login":
    from attrs import evolve

    from ..sites.model import Login

    base = _base(extends)
    if base is not None and flags["host"] not in {None, base.host}:
        base = None  # a way of the user's own, such as a Host of ~/.ssh/config
    transport = flags["transport"] or (base.transport if base is not None else "ssh")
    host = flags["host"] or (base.host if base is not None else None)
    if host is None and transport == "local":
        host = "localhost"
    if host is None:
        if yes:
            raise UsageError("init needs --host where nothing is asked", "name the login node, or a Host of ~/.ssh/config")
        host = click.prompt("Login node, or a Host of ~/.ssh/config", err=True)
    user = flags["user"]
    if user is None and not yes and transport != "local":
        user = click.prompt("User there (empty: as ~/.ssh/config says)", default="", show_default=False, err=True) or None
    try:
        return evolve(
            base or Login(host),
            host=host,
            port=flags["port"] or (base.port if base is not None else None),
            user=user,
            jump=flags["jump"] or (base.jump if base is not None else None),
            transport=transport,
        )
    except ValueError as error:
        raise UsageError(f"--host: {error}") from None


def _base(extends: str) -> "Login | None":
    """Return the login of a shipped profile."""
    from ..sites.profile import load_profile
    from ..sites.settings import shipped_path

    return load_profile(shipped_path(extends), shipped=True).login if extends else None


def _known(name: str, login: "Login", *, yes: bool) -> bool:
    """Pin the host keys that are agreed to; False where one is refused."""
    import asyncio

    from ..transports import trust as trusting
    from .options import answer_of_terminal

    refused: list[HostKey] = []

    def agree(key: "HostKey") -> bool:
        note(f"{key.name} shows {key.kind} {key.fingerprint}")
        if key.before:
            note(f"warning: its key has changed; known is {', '.join(key.before)}")
        # A key that has changed is never taken unseen.
        agreed = (yes and not key.before) or _agreed("Is this what the site publishes?")
        if not agreed:
            refused.append(key)
        return agreed

    for key in asyncio.run(trusting.trust(login, agree, answer=answer_of_terminal(), site=name)):
        note(f"trusted: {key.name} {key.kind} {key.fingerprint}")
    if refused:
        note(f"not trusted: {refused[0].name}; nothing was written")
    return not refused


def _look(name: str, login: "Login") -> "Cluster":
    from ..site_setup import look_at
    from .options import answer_of_terminal

    note(f"looking at {login.host} ...")
    return look_at(login, answer=answer_of_terminal(), site=name)


def _tell(cluster: "Cluster") -> None:
    from ..script.header import walltime

    accounts = "keeps accounts" if cluster.accounting else "keeps no accounts"
    note(f"cluster {cluster.name}, Slurm {cluster.version}, {accounts}; you are {cluster.user} on {cluster.host}")
    for one in cluster.partitions:
        limit = walltime(int(one.max_time_s)) if one.max_time_s else "no limit"
        gpus = f", {one.gpus} GPUs" if one.gpus else ""
        mark = " (default)" if one.default else ""
        note(f"  partition {one.name}{mark}: {one.usable} of {one.nodes} nodes, {one.cpus or '?'} CPUs{gpus} each, {limit}")
    if cluster.accounts:
        note(f"  accounts: {', '.join(cluster.accounts)}")
    runtimes = [*cluster.runtimes.values(), *cluster.modules]
    note(f"  containers: {', '.join(runtimes) or 'none seen on the login node'}")
    note(f"  python: {', '.join(f'{name} {version}' for name, version in cluster.pythons.items()) or 'none'}")


def _answers(name: str, login: "Login", extends: str, cluster: "Cluster", flags: "dict[str, Any]", *, yes: bool) -> "Answers":
    from attrs import evolve

    from ..site_setup import proposed

    answers = proposed(cluster, name, login, extends=extends, extended=_base(extends))

    def asked(key: str, question: str) -> str:
        if flags[key] is not None:
            return str(flags[key])
        default = getattr(answers, key)
        if yes:
            return str(default)
        return str(click.prompt(question, default=default, show_default=bool(default), err=True)).strip()

    answers = evolve(
        answers,
        account=asked("account", "Account (empty: none)"),
        partition=asked("partition", "Partition (empty: the default)"),
        qos=asked("qos", "QOS (empty: none)"),
        runs=asked("runs", "Folder for runs, shared with the nodes").rstrip("/"),
    )
    if extends:
        return answers
    runtime = asked("runtime", "Runtime: apptainer, singularity or host")
    match runtime:
        case "apptainer" | "singularity" | "host":
            return evolve(answers, runtime=runtime)
    raise UsageError(f"there is no runtime {runtime!r}", "it is apptainer, singularity or host")


def _write(path: Path, cluster: "Cluster", answers: "Answers") -> None:
    """Write the profile, once it is certain that it can be read.

    Raises:
        UsageError: what was answered makes no valid profile.
    """
    from ..node.files import PRIVATE_FILE, make_private_folder, write_atomic
    from ..site_setup import profile_text
    from ..sites.profile import load_profile

    make_private_folder(path.parent)
    draft = path.with_name(f".{path.stem}.new.yaml")
    try:
        write_atomic(draft, profile_text(cluster, answers), PRIVATE_FILE)
        load_profile(draft)
        draft.replace(path)
    except RecipeError as error:
        raise UsageError(f"what was answered makes no profile: {error.text}".replace(str(draft), path.name)) from None
    finally:
        draft.unlink(missing_ok=True)


def _doctor(name: str, *, job: bool) -> int:
    from ..doctor.examine import WAIT_S
    from .doctor import interruptible

    try:
        return interruptible(name, job=job, wait_s=WAIT_S).exit_code
    except (AifactoryBenchError, OSError) as error:
        show_error(explain(error))
        return 1
