"""Tools from recipe to verdict, through the script, the job and the point loop, beside the truth server."""

import pytest

from aifactory_bench import BenchmarkOrchestrator, Load, RecipeError
from aifactory_bench.node import arguments
from aifactory_bench_services.aiperf import AiperfClient, AiperfParameters

RECIPE = """\
schema: aifactory-bench/1
name: tools
services:
  llm: {kind: truth-llm}
clients:
  vllm:
    kind: vllm-bench
    target: llm
    environment: {LLM_DOUBLE: chat, LLM_DOUBLE_LOG: CALLS}
    parameters: {model: truth, input_tokens: 16, output_tokens: 8, requests: 6}
    load: {process: closed, concurrency: 2, warmup: 0s, duration: 1s}
  guidellm:
    kind: guidellm
    target: llm
    after: vllm
    environment: {LLM_DOUBLE: closed, LLM_DOUBLE_LOG: CALLS}
    parameters: {model: truth, tokenizer: /models/tiny, input_tokens: 16, output_tokens: 8}
    load: {process: closed, concurrency: 2, warmup: 0s, duration: 1s}
  aiperf:
    kind: aiperf
    target: llm
    after: guidellm
    environment: {LLM_DOUBLE: closed, LLM_DOUBLE_LOG: CALLS}
    parameters: {model: truth, tokenizer: /models/tiny, input_tokens: 16, output_tokens: 8}
    load: {process: closed, concurrency: 2, warmup: 0s, duration: 1s}
  without:
    kind: vllm-bench
    target: llm
    after: aiperf
    environment: {LLM_DOUBLE: no-package, LLM_DOUBLE_LOG: CALLS}
    parameters: {model: truth, requests: 6}
    load: {process: closed, concurrency: 2, warmup: 0s, duration: 1s}
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tools.yaml"
    path.write_text(RECIPE.replace("CALLS", str(tmp_path / "calls")))
    return path


def test_tools_give_measurements_with_verdicts(double, calls, recipe, tmp_path):
    """All measure, in our terms; the one that cannot start is invalid, with the reason."""
    double("")
    with BenchmarkOrchestrator(runs_dir=tmp_path / "runs") as bench:
        run = bench.run(recipe)
        summary = run.wait()
    measurements = {each.client: each for point in summary.points for each in point.measurements}
    vllm, guidellm, aiperf = (measurements[name] for name in ("vllm", "guidellm", "aiperf"))
    for measurement in (vllm, guidellm, aiperf):
        # The server has seen none of it; and the executables have hardly a life of their own.
        assert {reason.code for reason in measurement.reasons} <= {"client_bound", "totals_mismatch", "unchecked"}
        assert measurement.distributions["ttft"]["p50"] == pytest.approx(61_000, rel=0.05)
        assert measurement.distributions["tpot"]["p50"] == pytest.approx(10_000, rel=0.05)
        assert measurement.latency["chat"]["send"].p50_us == pytest.approx(131_500, rel=0.05)
    assert (vllm.counts["ok"], guidellm.counts["ok"], aiperf.counts["ok"]) == (6, 16, 16)
    assert vllm.unchecked == ()
    assert guidellm.unchecked == aiperf.unchecked == ("client_bound",)
    assert "chunk_gap" in vllm.distributions
    assert "distributions.chunk_gap" in guidellm.absent
    without = measurements["without"]
    assert (summary.verdict, without.verdict) == ("invalid", "invalid")
    assert any("No package metadata was found for vllm" in reason.text for reason in without.reasons)
    secret = next(run.folder.glob("endpoints/*/secret")).read_text().strip()
    assert secret
    seen = calls()
    assert [call["argv"][0] for call in seen] == ["bench", "run", "profile", "bench"]
    for call in seen:
        assert secret not in " ".join(call["argv"])
        assert secret in call["environment"].values()
    assert len({call["argv"][call["argv"].index("--seed") + 1] for call in (seen[0], seen[3])}) == 1
    for path in run.folder.rglob("*"):
        if path.is_file() and path.name != "secret":
            assert secret.encode() not in path.read_bytes(), path


def test_a_load_that_a_tool_does_not_have_is_refused_before_anything_is_started(recipe, tmp_path):
    recipe.write_text(RECIPE.replace("requests: 6}\n    load: {process: closed", "}\n    load: {process: closed", 1))
    with (
        BenchmarkOrchestrator(runs_dir=tmp_path / "runs") as bench,
        pytest.raises(RecipeError, match=r"clients\.vllm\.parameters\.requests: missing; vllm bench serve has no duration"),
    ):
        bench.run(recipe)


def test_the_seed_of_a_tool_is_another_one_at_each_point_and_the_same_again(context_of, monkeypatch):
    """With the same one a server's prefix cache would know the prompts of the point before."""
    client = AiperfClient(
        "bench", AiperfParameters(model="truth", tokenizer="/models/tiny"), load=Load(process="closed", concurrency=2)
    )
    monkeypatch.setattr(arguments, "rank_values", lambda *_: {})  # what every rank knows is asked of the machine

    def seed(**changes):
        return int(arguments.tool_values(None, context_of(client, **changes), None)["seed.point"])

    seeds = [seed(point=point, seed=start) for point in ("p0000-r1", "p0000-r2", "p0001-r1") for start in (1, 2)]
    assert len(set(seeds)) == 6
    assert seed(point="p0000-r1", seed=1) == seeds[0]
    assert all(0 <= one < 2**31 for one in seeds)
