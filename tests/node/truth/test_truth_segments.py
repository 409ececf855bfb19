"""Whatever the cuts, what arrives is the same."""

import re

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aifactory_bench.node.truth_options import Choices, Options
from aifactory_bench.node.truth_plan import ask_of
from aifactory_bench.node.truth_record import Record
from aifactory_bench.node.truth_render import pieces


def blanked(data):
    data = re.sub(rb'"id":"[a-z]+-afb-\d+"', b'"id":""', data)
    return re.sub(rb'"created":\d+', b'"created":0', re.sub(rb'"created_at":"[^"]*"', b'"created_at":""', data))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.integers(1, 40),
    seed=st.integers(0, 2**32),
    text=st.sampled_from(["plain", "utf8"]),
    path=st.sampled_from(["/v1/chat/completions", "/v1/completions", "/api/generate", "/api/chat"]),
    line_end=st.sampled_from(["lf", "crlf"]),
)
def test_the_stream_is_the_same(truth, size, seed, text, path, line_end):
    """Cut anywhere, also inside a character; to the byte."""
    body = {"model": "m", "stream": True, "max_tokens": 5, "prompt": "a b", "messages": [{"role": "user", "content": "a b"}]}
    options = {"ttft": 0, "gap": 0, "tokens": 5, "text": text, "line_end": line_end, "usage": "none"}
    with_cuts = {**options, "segment_bytes": size, "segment_gap": "1us", "seed": seed}
    cut, plain = (truth.ask(path, {**body, "afb": given}) for given in (with_cuts, options))
    assert cut.how == plain.how == "whole"
    hidden = [re.sub(rb',"(total|load|prompt_eval|eval)_duration":\d+', b"", blanked(answer.body)) for answer in (cut, plain)]
    assert hidden[0] == hidden[1]


def test_cuts_are_seen(truth):
    """They arrive one by one, and inside of characters too."""
    answer = truth.chat(tokens=30, gap=0, text="utf8", segment_bytes=3, segment_gap="100us", seed=3)
    sizes = [len(data) for _, data in answer.pieces]
    assert len(sizes) > len(answer.raw) / 8
    inside = 0
    for _, data in answer.pieces:
        try:
            data.decode()
        except UnicodeDecodeError:
            inside += 1
    assert inside > 10
    assert len(answer.text.split(" ")) == 30


def test_a_whole_answer_is_cut_as_well(truth):
    """And an error."""
    body = truth.completion_body(segment_bytes=5, segment_gap="300us") | {"stream": False}
    answer = truth.ask("/v1/completions", body)
    assert len(answer.pieces) > 10
    assert answer.json["choices"][0]["text"] == "baba beba biba boba"
    answer = truth.complete(error_status=500, segment_bytes=5, segment_gap="300us")
    assert len(answer.pieces) > 5
    assert answer.json["error"]["code"] == 500


def test_cuts_put_off_what_comes_next(truth):
    """The next chunk is not due before the last piece of this one is out: cutting makes nobody late."""
    truth.chat(tokens=10, gap=0, segment_bytes=10, segment_gap="200us")
    record = truth.last()
    assert record["due_ns"] == sorted(record["due_ns"])
    assert record["due_ns"][-1] - record["due_ns"][1] > 9 * 5 * 200_000


@given(
    tokens=st.integers(0, 40),
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    reasoning=st.integers(0, 10),
    usage=st.sampled_from(["own", "last", "every", "none"]),
    finish=st.sampled_from(["own", "with_last"]),
    role=st.sampled_from(["at_once", "before_first", "with_first", "none"]),
    empty_every=st.integers(0, 3),
    comment_every=st.integers(0, 3),
    truth=st.booleans(),
    dialect=st.sampled_from(["completions", "chat", "generate", "ollama_chat"]),
)
def test_sizes_of_chunks(dialect, **options):
    """Made before the stamp is known, they are right whatever the options, and all tokens are there once."""
    body = {
        "model": "m%d",
        "prompt": "x",
        "messages": [],
        "stream": True,
        "afb": {**options, "tokens_per_chunk": options.pop("sizes")},
    }
    del body["afb"]["sizes"]
    ask = ask_of(dialect, body, Choices(Options()), (1, 1))
    made = list(pieces(ask, Record(1, "/", 5, 0), chunked=True))
    rest = b"".join((b"%19d" % 7).join(piece.parts) for piece in made).partition(b"\r\n\r\n")[2]
    while True:
        size, _, rest = rest.partition(b"\r\n")
        number = int(size, 16)
        assert rest[number : number + 2] == b"\r\n"
        chunk, rest = rest[:number], rest[number + 2 :]
        assert chunk.endswith(b"\n") or number == 0
        if number == 0:
            break
    assert rest == b""
    assert sum(piece.tokens for piece in made) == options["tokens"]
