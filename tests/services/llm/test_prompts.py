"""Prompts have the length that was asked for, are the same for the same seed, and no two begin alike by accident."""

import json
import os
import socket
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aifactory_bench.node.contract import PrepareError
from aifactory_bench_services.llm_prompts_node import Prompt, Prompts
from aifactory_bench_services.llm_words_node import PART_WORDS, SALT_WORDS, WORDS, measured_ratio, salt_words

SOME: dict[str, Any] = {"input_tokens": 64, "output_tokens": 16}


def some(
    parameters: dict[str, Any], number: int = 20, *, load: Any = None, part: int = 0, parts: int = 1, **more: Any
) -> list[Prompt]:
    prompts = Prompts(parameters, load or {}, more.pop("seed", 1), part, parts, **more)
    return [prompts.next() for _ in range(number)]


def words(prompt: Prompt) -> list[str]:
    return prompt.text.split()


def test_the_words_are_as_many_as_a_byte_has_values_and_all_different() -> None:
    assert len(WORDS) == len(set(WORDS)) == 256
    assert all(word.isascii() and word.islower() and word.isalpha() for word in WORDS)


@settings(max_examples=40, deadline=None)
@given(
    tokens=st.integers(1, 3000),
    shared=st.floats(0, 1),
    salt=st.booleans(),
    part=st.integers(0, 3),
    seed=st.integers(0, 2**40),
)
def test_a_prompt_has_exactly_the_words_that_were_asked_for(
    tokens: int, shared: float, salt: bool, part: int, seed: int
) -> None:
    parameters = {"input_tokens": tokens, "output_tokens": 5, "shared_prefix": shared, "salt": salt}
    for prompt in some(parameters, 3, part=part, parts=4, seed=seed):
        assert len(words(prompt)) == tokens
        assert (prompt.input_tokens, prompt.output_tokens, prompt.conversation) == (tokens, 5, None)
        assert prompt.messages == ({"role": "user", "content": prompt.text},)


def test_the_same_seed_makes_the_same_prompts_in_another_process() -> None:
    parameters = {"input_tokens": {"mean": 50, "deviation": 20}, "output_tokens": 16, "shared_prefix": 0.3}
    here = some(parameters, 5, seed=7, part=1, parts=3, salt="x")
    program = (
        "from aifactory_bench_services.llm_prompts_node import Prompts\n"
        f"prompts = Prompts({parameters!r}, {{}}, 7, 1, 3, 'x')\n"
        "print([prompts.next().text for _ in range(5)])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert there.stdout.strip() == str([prompt.text for prompt in here])


def test_no_two_prompts_begin_alike_over_parts_and_runs() -> None:
    """One block of a prefix cache, 16 tokens, is already another one."""
    begins = [
        tuple(words(prompt)[:SALT_WORDS])
        for part in range(4)
        for salt in ("", "next run")
        for prompt in some(SOME, 500, part=part, parts=4, salt=salt)
    ]
    assert len(set(begins)) == len(begins) == 4000


def test_another_run_has_prompts_of_the_same_lengths_and_other_words() -> None:
    parameters = {
        "input_tokens": {"mean": 50, "deviation": 20},
        "output_tokens": {"least": 1, "most": 99},
        "shared_prefix": 0.5,
    }
    one, other = some(parameters, salt="monday"), some(parameters, salt="tuesday")
    assert [prompt.input_tokens for prompt in one] == [prompt.input_tokens for prompt in other]
    assert [prompt.output_tokens for prompt in one] == [prompt.output_tokens for prompt in other]
    assert not {prompt.text for prompt in one} & {prompt.text for prompt in other}
    assert words(one[0])[:5] != words(other[0])[:5]


@pytest.mark.parametrize(("share", "shared"), [(0, 0), (0.25, 25), (0.9, 90), (1, 100)])
def test_the_wanted_share_of_a_prompt_is_common_to_all_and_the_salt_comes_after_it(share: float, shared: int) -> None:
    parameters = {"input_tokens": 100, "shared_prefix": share}
    prompts = [*some(parameters, part=0, parts=2), *some(parameters, part=1, parts=2)]
    assert len({tuple(words(prompt)[:shared]) for prompt in prompts}) == 1
    if shared < 100:
        assert len({tuple(words(prompt)[shared : shared + SALT_WORDS]) for prompt in prompts}) == len(prompts)


def test_without_a_salt_prompts_still_differ_by_their_words() -> None:
    prompts = some({**SOME, "salt": False})
    assert len({prompt.text for prompt in prompts}) == len(prompts)
    assert words(prompts[0])[:SALT_WORDS] != salt_words("1/", 0, 0)


@pytest.mark.parametrize(
    ("length", "middle", "deviation"),
    [
        ({"mean": 400, "deviation": 100}, 400, 100),
        ({"mean": 400, "deviation": 100, "shape": "lognormal"}, 400, 100),
        ({"least": 100, "most": 700}, 400, 173),
    ],
)
def test_lengths_are_distributed_as_asked(length: dict[str, Any], middle: float, deviation: float) -> None:
    found = [prompt.output_tokens or 0 for prompt in some({"input_tokens": 1, "output_tokens": length}, 4000)]
    assert statistics.mean(found) == pytest.approx(middle, rel=0.03)
    assert statistics.stdev(found) == pytest.approx(deviation, rel=0.06)


@given(
    least=st.integers(1, 50),
    span=st.integers(0, 50),
    mean=st.floats(1, 200),
    deviation=st.floats(0, 300),
    shape=st.sampled_from(["normal", "lognormal"]),
)
@settings(max_examples=50, deadline=None)
def test_lengths_stay_within_their_bounds(least: int, span: int, mean: float, deviation: float, shape: str) -> None:
    length = {"mean": mean, "deviation": deviation, "least": least, "most": least + span, "shape": shape}
    found = [prompt.output_tokens or 0 for prompt in some({"input_tokens": 1, "output_tokens": length}, 5)]
    assert least <= min(found)
    assert max(found) <= least + span


@pytest.mark.parametrize(
    ("length", "text"),
    [
        ({"least": 5, "most": 4}, "a length from 5 to 4 is none"),
        ({"least": 5}, "give least and most, or mean and deviation"),
        ({"mean": 0, "deviation": 1}, "mean 0"),
        (None, "neither a length of prompts, nor a file of them, nor a trace"),
    ],
)
def test_a_length_that_is_none_is_refused(length: Any, text: str) -> None:
    with pytest.raises(PrepareError, match=text):
        some({"input_tokens": length})


def _tokens(text: str, split_at: int = 5, extra: int = 0) -> int:
    """A tokenizer: words beyond a length have two tokens, and something stands around each text."""
    return extra + sum(1 + (len(word) > split_at) for word in text.split())


@settings(max_examples=60, deadline=None)
@given(split_at=st.integers(2, 7), extra=st.integers(0, 40), tokens=st.integers(60, 500), seed=st.integers(0, 99))
def test_the_ratio_that_a_server_shows_makes_lengths_right(split_at: int, extra: int, tokens: int, seed: int) -> None:
    """In the mean over many prompts, and each of them where every word is one token."""

    def count(some: Sequence[str]) -> int:
        return _tokens(" ".join(some), split_at, extra)

    ratio = measured_ratio(count(WORDS[:PART_WORDS]), count)
    assert ratio is not None
    assert ratio.overhead == extra
    assert ratio.tokens_per_word == pytest.approx((count(WORDS) - extra) / len(WORDS), rel=0.02)
    prompts = Prompts({"input_tokens": tokens, "output_tokens": 1}, {}, seed, 0, 1)
    prompts.fit(ratio)
    found = [count(prompts.next().text.split()) for _ in range(200)]
    assert statistics.mean(found) == pytest.approx(tokens, rel=0.04)
    if split_at == 7:
        assert set(found) == {tokens}


def test_lengths_are_right_where_words_have_one_token_or_two() -> None:
    def count(some: Sequence[str]) -> int:
        return _tokens(" ".join(some), 4, extra=11)

    ratio = measured_ratio(count(WORDS[:PART_WORDS]), count)
    assert ratio is not None
    prompts = Prompts({"input_tokens": 512, "output_tokens": 1}, {}, 1, 0, 1)
    prompts.fit(ratio)
    found = [count(words(prompts.next())) for _ in range(50)]
    assert statistics.mean(found) == pytest.approx(512, rel=0.01)
    assert max(abs(one - 512) for one in found) < 0.08 * 512


def test_only_what_is_needed_is_asked() -> None:
    asked: list[int] = []

    def count(some: Sequence[str]) -> int:
        asked.append(len(some))
        return len(some) + 7

    ratio = measured_ratio(PART_WORDS + 7, count)
    assert ratio is not None
    assert (ratio.tokens_per_word, ratio.overhead) == (1, 7)
    assert asked == [2 * PART_WORDS]


@pytest.mark.parametrize(
    ("once", "others"), [(None, []), (0, []), (70, [None]), (70, [70]), (70, [300, None]), (70, [300, 200, 0])]
)
def test_numbers_that_say_nothing_are_no_ratio(once: int | None, others: list[int | None]) -> None:
    answers = iter(others)
    assert measured_ratio(once, lambda _: next(answers)) is None


def test_conversations_go_on_with_what_the_server_said() -> None:
    prompts = Prompts({"input_tokens": 30, "output_tokens": 10, "turns": 3}, {}, 1, 0, 1)
    first, another = prompts.next(), prompts.next()
    assert first.conversation is not None
    assert first.conversation != another.conversation
    second = prompts.follow(first, "I see.")
    assert second is not None
    assert second.messages[:2] == (*first.messages, {"role": "assistant", "content": "I see."})
    assert len(second.messages[2]["content"].split()) == 30
    assert (second.turn, second.input_tokens, second.output_tokens) == (1, None, 10)
    assert second.text.startswith(f"{first.text}\n\nI see.\n\n")
    third = prompts.follow(second, "And then?")
    assert third is not None
    assert (third.turn, third.conversation, len(third.messages)) == (2, None, 5)
    assert prompts.follow(third, "No more.") is None


def test_one_turn_is_no_conversation() -> None:
    prompts = Prompts(SOME, {}, 1, 0, 1)
    assert prompts.follow(prompts.next(), "Well?") is None


# files


def _file(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_prompts_of_a_file_are_taken_in_turn_by_the_parts(tmp_path: Path) -> None:
    path = _file(tmp_path / "p.jsonl", *({"prompt": f"Frage {number} über alles", "id": number} for number in range(5)))
    parameters = {"prompts": path, "salt": False}
    found = [[prompt.text for prompt in some(parameters, 4, part=part, parts=2)] for part in range(2)]
    assert found[0] == [f"Frage {number} über alles" for number in (0, 2, 4, 1)]
    assert found[1] == [f"Frage {number} über alles" for number in (1, 3, 0, 2)]


def test_a_file_says_how_long_answers_are_and_the_recipe_where_it_does_not(tmp_path: Path) -> None:
    path = _file(tmp_path / "p.jsonl", {"prompt": "a", "output_tokens": 7}, {"prompt": "b", "max_tokens": 8}, {"prompt": "c"})
    found = some({"prompts": path, "output_tokens": 99, "input_tokens": 512}, 3)
    assert [prompt.output_tokens for prompt in found] == [7, 8, 99]
    assert [prompt.input_tokens for prompt in found] == [None] * 3


def test_the_salt_stands_before_what_the_user_says_and_after_the_system(tmp_path: Path) -> None:
    system, user = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}
    pictures = [{"type": "text", "text": "What is this?"}]
    path = _file(
        tmp_path / "p.jsonl",
        {"messages": [system, user]},
        {"messages": [{"role": "user", "content": pictures}]},
        {"prompt": "Why?"},
    )
    first, second, third = some({"prompts": path}, 3)
    assert first.messages[0] == system
    assert first.messages[1]["content"] == f"{' '.join(salt_words('1/', 0, 0))} Why?"
    assert second.messages[0]["content"] == [{"type": "text", "text": " ".join(salt_words("1/", 0, 1))}, *pictures]
    assert third.text == third.messages[0]["content"] == f"{' '.join(salt_words('1/', 0, 2))} Why?"
    assert first.text == f"Be brief.\n\n{first.messages[1]['content']}"
    again = some({"prompts": path}, 4)[3]
    assert again.messages[0] == system
    assert again.text != first.text


def test_conversations_of_share_gpt_leave_out_what_another_model_said(tmp_path: Path) -> None:
    path = tmp_path / "sharegpt.json"
    said = [("human", "Hi"), ("gpt", "Hello!"), ("human", "More"), ("gpt", "No."), ("human", "Please")]
    path.write_text(
        json.dumps(
            [
                {"id": "a", "conversations": [{"from": who, "value": what} for who, what in said]},
                {"id": "b", "conversations": [{"from": "gpt", "value": "nobody asked"}]},
                {"id": "c", "conversations": [{"from": "system", "value": "Be brief."}, {"from": "user", "value": "Short"}]},
            ]
        )
    )
    prompts = Prompts({"prompts": str(path), "turns": 2, "output_tokens": 20, "salt": False}, {}, 1, 0, 1)
    first, second = prompts.next(), prompts.next()
    assert first.text == "Hi"
    assert second.messages == ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Short"})
    assert second.conversation is None
    following = prompts.follow(first, "Good day.")
    assert following is not None
    assert [message["content"] for message in following.messages] == ["Hi", "Good day.", "More"]
    assert (following.conversation, following.output_tokens, following.input_tokens) == (None, 20, None)
    assert prompts.next().text == "Hi"  # the file from the beginning


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no prompts"),
        ("\n\n", "has no prompts"),
        ('{"prompt": ', r":1: must be one JSON object a line: .*; found '\{\"prompt\":'"),
        ('{"prompt": "a"}\n[1]\n', r":2: must be a JSON object; found \[1\]"),
        ('{"text": "a"}', ":1: must have a text as prompt, or messages; found the keys text"),
        ('{"prompt": 5}', ":1: must have a text as prompt, or messages; found 5"),
        ('{"prompt": "a", "max_tokens": 0}', ":1: max_tokens must be a whole number of tokens, at least 1; found 0"),
        (
            '{"prompt": "a", "output_tokens": true}',
            ":1: output_tokens must be a whole number of tokens, at least 1; found true",
        ),
        ('{"messages": []}', r":1: messages must be a list of at least one; found \[\]"),
        ('{"messages": [{"role": "user"}]}', ":1: a message must have role and content"),
        ("[1", ": not JSON"),
        ("[1]", ": item 0: must be a JSON object with conversations; found 1"),
        ('[{"conversations": 5}]', ": item 0: must have a list as conversations; found 5"),
        ('[{"conversations": [{"from": "cat", "value": "Mew"}]}]', r": item 0: must have from \(one of human, user"),
        ("[]", "has no prompts"),
    ],
)
def test_a_file_of_something_else_is_one_clear_error(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_text(text)
    with pytest.raises(PrepareError, match=said) as caught:
        some({"prompts": str(path)})
    assert str(caught.value).startswith(f"prompts: {path}")
    assert socket.gethostname() in str(caught.value)


def test_a_missing_file_is_named_with_its_node_and_nothing_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(
        PrepareError, match=f"{tmp_path}/none.jsonl cannot be read on node {socket.gethostname()}: No such file"
    ):
        some({"prompts": f"{tmp_path}/none.jsonl"})
    with pytest.raises(PrepareError, match="is no file"):
        some({"prompts": str(tmp_path)})
    (tmp_path / "latin").write_bytes(b'{"prompt": "\xe4"}')
    with pytest.raises(PrepareError, match="not UTF-8 text"):
        some({"prompts": str(tmp_path / "latin")})


# traces


def test_a_trace_says_how_long_its_requests_are_and_what_they_have_in_common(tmp_path: Path) -> None:
    rows = [
        {"timestamp": 0, "input_length": 1200, "output_length": 10, "hash_ids": [0, 1, 2]},
        {"timestamp": 5, "input_length": 600, "output_length": 20, "hash_ids": [0, 7]},
        {"timestamp": 9, "input_length": 1600, "output_length": 30, "hash_ids": [0, 1, 9]},
        {"timestamp": 9, "input_length": 5, "output_length": 40},
    ]
    load = {"process": "trace", "trace": _file(tmp_path / "t.jsonl", *rows)}
    found = some({}, 6, load=load)
    assert [prompt.input_tokens for prompt in found] == [1200, 600, 1600, 5, 1200, 600]
    assert [prompt.output_tokens for prompt in found] == [10, 20, 30, 40, 10, 20]
    assert [len(words(prompt)) for prompt in found] == [1200, 600, 1600, 5, 1200, 600]
    first, second, third = (words(prompt) for prompt in found[:3])
    assert first[:512] == second[:512] == third[:512]
    assert first[512:1024] == third[512:1024]
    assert first[512:600] != second[512:600]
    assert first[1024:1200] != third[1024:1200]
    parts = [some({}, 2, load=load, part=part, parts=2) for part in range(2)]
    assert [[prompt.output_tokens for prompt in own] for own in parts] == [[10, 30], [20, 40]]
    assert words(parts[0][0]) == first  # blocks are the same for all generators
    other_run = some({}, 1, load=load, salt="tuesday")[0]
    assert words(other_run)[:16] != first[:16]


def test_a_trace_without_lengths_needs_them_from_the_recipe(tmp_path: Path) -> None:
    load = {"process": "trace", "trace": _file(tmp_path / "t.jsonl", {"timestamp": 0}, {"timestamp": 1, "input_length": 9})}
    with pytest.raises(PrepareError, match="nor a trace with lengths"):
        some({}, load=load)
    assert [prompt.input_tokens for prompt in some({"input_tokens": 33}, 2, load=load)] == [33, 9]
    with pytest.raises(PrepareError, match="cannot be read on this node"):
        some(SOME, load={"process": "trace", "trace": str(tmp_path / "none")})
