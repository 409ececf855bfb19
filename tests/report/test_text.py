"""What people see: complete, aligned, at most 80 columns, and harmless whatever a site sends."""

import re

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from aifactory_bench.node.measurement import Counts, Health
from aifactory_bench.report.names import clean, clean_line, parameters_line, short_names
from aifactory_bench.report.summary import summarise
from aifactory_bench.report.text import print_summary, render_summary, summary_html
from aifactory_bench.results.numbers import duration, percent, rate, seconds

EVIL = "\x1b[31mred\x1b[0m \x1b]0;title\x07 [bold]x[/bold] <script>alert(1)</script> \x9b2J \u202egnp"


def lines_of(text):
    assert all(cell_len(line) <= 80 for line in text.split("\n")), text
    assert all(line == line.rstrip() for line in text.split("\n") if not line.startswith("run folder")), text
    return text.split("\n")


def test_one_point_shows_everything(make_summary, shown):
    """Offered, achieved, quantiles by both clocks for each operation, errors, verdict and the run folder."""
    text = shown(render_summary(make_summary()))
    lines = lines_of(text)
    assert "valid: offered 2,000/s, achieved 2,000/s, errors 0, 10 s" in text
    assert "latency from sending" in text
    assert "latency from schedule" in text
    for operation in ("all", "get", "set"):
        row = next(line for line in lines if line.startswith(f"  {operation} "))
        assert len(re.findall(r"[\d.]+(?:µs|ms|s)\b", row)) == 8
    assert "/home/user/.local/share" in text


def test_columns_are_aligned(make_summary, shown):
    """All cells end where their headings end."""
    lines = lines_of(shown(render_summary(make_summary())))
    heading = next(line for line in lines if line.startswith("operation"))
    ends = [match.end() for match in re.finditer(r"\S+", heading)][1:]
    rows = [line for line in lines if line.startswith(("  all ", "  get ", "  set "))]
    assert len(rows) == 3
    for row in rows:
        assert [match.end() for match in re.finditer(r"\S+", row)][1:] == ends


def test_closed_loop_shows_one_clock(make_summary, shown):
    """Without a schedule there are no empty columns, and the slowest request has room; few samples are marked."""
    text = shown(render_summary(make_summary(rates=(None,), document={"count": 3000})))
    lines_of(text)
    assert "schedule" not in text
    assert "offered" not in text
    assert "max" in text
    assert re.search(r"~[\d.]+ms", text)
    assert "~ rests on fewer samples" in text


def test_many_points_are_compact(make_summary, shown):
    """Twelve points of three operations take one line each and one a point."""
    text = shown(render_summary(make_summary(rates=(1000, 2000, 5000, 10_000), repetitions=3)))
    assert len(lines_of(text)) <= 12 * 4 + 10
    assert "rate=10000/s  rep 3  valid: offered 10,000/s, achieved 10,000/s, errors 0, 10 s" in text
    assert "12 measurements: 12 valid" in text


def test_points_stand_in_the_order_of_the_matrix(make_summary, shown):
    """Execution is shuffled, reading is not."""
    summary = make_summary(rates=(1000, 2000, 5000))
    text = shown(render_summary(evolve(summary, points=summary.points[::-1])))
    assert text.index("rate=1000/s") < text.index("rate=2000/s") < text.index("rate=5000/s")


def test_invalid_tells_its_reasons(make_summary, shown):
    """Verdict as a word and in colour, each reason with what was found and what was allowed."""
    wrong = {
        "achieved_per_s": 1803.2,
        "counts": Counts(ok=18_032, error=700, timeout=68, skipped=1200),
        "health": Health(cpu_share=[0.97]),
    }
    summary = make_summary(document=wrong)
    text = shown(render_summary(summary))
    lines_of(text)
    assert "invalid: offered 2,000/s, achieved 1,803/s, errors 768 (timeouts 68)" in text
    assert "never sent 1,200" in " ".join(text.split())
    assert "error_share: 768 of 18,800 failed, 4.09 % (limit 1 %)" in text
    assert "client_bound:" in text
    coloured = shown(render_summary(summary), colour=True)
    assert "\x1b[1;31minvalid" in coloured
    assert "\x1b" not in text


def test_failed_run_tells_the_cause(make_plan, make_result, fail_job, shown):
    """Nothing measured: what is missing, why, the log's last lines, a hint, and where to look."""
    plan = make_plan()
    result = make_result(plan, without=("load/p0000-r1",))
    result = fail_job(result, "cache", "not_ready", f"did not answer\nlast lines of its log:\n{EVIL}")
    text = shown(render_summary(summarise(plan, result)))
    lines_of(text)
    assert "not measured (1): load/p0000-r1" in text
    assert "error: service cache: did not answer" in text
    assert "red" in text
    assert "hint: " in text
    assert "\x1b" not in text


def test_pending_measurements_are_told(make_plan, make_result, fail_job, shown):
    """A run that goes on is not judged as if it had ended."""
    plan = make_plan(rates=(1000, 2000))
    result = make_result(plan, status="detached", without=("load/p0001-r1",))
    text = shown(render_summary(summarise(plan, fail_job(result, "load", None, state="running"))))
    assert "valid so far (detached)" in text
    assert "still to come (1): load/p0001-r1" in text


def test_folder_stays_in_one_piece(make_summary):
    """As text, and printed to a narrow terminal, the path can be copied."""
    summary = make_summary()
    assert f"run folder: {summary.run_folder}" in str(render_summary(summary)).split("\n")
    console = Console(width=40)
    with console.capture() as capture:
        print_summary(summary, console)
    assert summary.run_folder in capture.get()


def test_strings_of_a_site_do_nothing(make_summary, shown):
    """Escape sequences, markup and direction marks are shown as text or not at all."""
    summary = make_summary()
    point = summary.points[0]
    one = point.measurements[0]
    evil = evolve(
        summary,
        recipe=EVIL,
        site=EVIL,
        run_folder="/runs/" + EVIL,
        error={"code": "failed", "text": EVIL, "hint": EVIL},
        points=(
            evolve(
                point,
                parameters={"a." + EVIL: EVIL},
                measurements=(evolve(one, client=EVIL, latency={EVIL: one.latency["get"]}, reasons=()),),
            ),
        ),
    )
    text = shown(render_summary(evil))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert "[bold]x[/bold]" in text
    page = summary_html(evil)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", page)


def test_html_shows_the_same(make_summary):
    """A notebook has the same numbers as the terminal, as a table, also through the object's own hook."""
    summary = make_summary(document={"counts": Counts(ok=19_000, error=1000)})
    page = summary_html(summary)
    assert page == render_summary(summary)._repr_html_()
    for text in ("<table>", "latency from schedule", "165µs", "error_share", "errors 1,000", summary.run_folder):
        assert text in page
    assert page.count("<tr") == page.count("</tr>")
    assert page.count("<td") == page.count("</td>")


@given(st.text())
def test_clean_text_has_no_controls(text):
    """No control character but the newline is left, whatever comes in."""
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", clean(text))
    assert "\n" not in clean_line(text)


def test_long_text_is_cut():
    """A log of a megabyte does not fill the screen."""
    assert len(clean("x" * 10_000)) < 4100


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["clients.load.load.rate"], ["rate"]),
        (["clients.a.load.rate", "clients.b.load.rate"], ["a.load.rate", "b.load.rate"]),
        (["services.cache.parameters.persistence", "clients.load.load.rate"], ["persistence", "rate"]),
        (["a.b", "b"], ["a.b", "b"]),
    ],
)
def test_names_are_as_short_as_they_are_clear(paths, names):
    """The end of a path is enough where no other path ends so."""
    assert list(short_names(paths).values()) == names


def test_parameters_on_one_line():
    """In the order of the matrix."""
    parameters = {"services.cache.parameters.persistence": "none", "clients.load.load.rate": "5000/s"}
    assert parameters_line(parameters, short_names(parameters)) == "persistence=none rate=5000/s"


@pytest.mark.parametrize(
    ("value_us", "text"),
    [
        (0, "0µs"),
        (0.4, "0.4µs"),
        (12.34, "12.3µs"),
        (112.4, "112µs"),
        (999.6, "1.00ms"),
        (1210, "1.21ms"),
        (48_000, "48.0ms"),
        (480_123, "480ms"),
        (999_600, "1.00s"),
        (12_340_000, "12.3s"),
    ],
)
def test_durations(value_us, text):
    """Three digits and a unit that suits, never more than seven characters for what a request may take."""
    assert duration(value_us) == text


def test_other_numbers():
    """Rates, shares and seconds as people write them."""
    assert (rate(20_000), rate(12.5), rate(0.25)) == ("20,000/s", "12.5/s", "0.25/s")
    assert (percent(0.0321), percent(0.98), percent(1)) == ("3.21 %", "98 %", "100 %")
    assert (seconds(30), seconds(4.213), seconds(0)) == ("30 s", "4.21 s", "0 s")


@given(st.floats(min_value=0, max_value=6e8))
def test_durations_fit_their_column(value_us):
    """A cell and its mark never touch the cell before."""
    assert cell_len("~" + duration(value_us)) <= 7


def test_what_a_product_measures_beside_latencies_is_shown(make_summary, make_histogram, shown):
    """Times as rows, by both clocks where there are both; everything else as figures with their units."""
    times = {"unit": "us", "histogram": make_histogram(25_000.0, 20_000)}
    document = {
        "distributions": {
            "ttft": times,
            "ttft_schedule": {"unit": "us", "histogram": make_histogram(50_000.0, 100)},
            "tpot": times,
            "output_tokens": {"unit": "token", "histogram": make_histogram(0.128, 100)},
        },
        "sums": {
            "in_flight": {"unit": "request", "per_second": [1, *[8] * 9]},
            "output_tokens": {"unit": "token", "per_second": [10, *[100] * 9]},
        },
        "metrics": {"slo_attainment": {"value": 0, "unit": "ratio", "merge": "ratio", "numerator": 95, "denominator": 100}},
    }
    text = shown(render_summary(make_summary(document=document)))
    (ttft,) = [line for line in text.splitlines() if line.startswith("  ttft")]
    assert ttft.split()[1:3] == ["37.5ms", "68.4ms"]
    assert "~" in ttft.split()[-1]
    (tpot,) = [line for line in text.splitlines() if line.startswith("  tpot")]
    assert tpot.split()[-4:] == ["-"] * 4
    assert "output_tokens 91 token/s (steady 100 token/s)" in " ".join(text.split())
    assert "slo_attainment 95 % (88.8 % to 97.8 %)" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80
