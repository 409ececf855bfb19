"""A search in what people see: one line, wrapped to the terminal, and harmless whatever a site sends."""

from aifactory_bench.report.text import render_summary, summary_html

FOUND = {
    "status": "found",
    "find": "rate",
    "quantity": "rate",
    "value": 43.1,
    "next_tried": 45.2,
    "next_why": "ttft p99 231 ms, limit 200 ms",
    "why": "",
    "trials": [{"n": 1}, {"n": 2}],
}


def test_the_line_of_a_search(make_summary, shown):
    """How many trials, what was found, what came next."""
    summary = make_summary(document={"provenance": {"search": FOUND}})
    line = "search: 2 trials, highest rate within SLO 43.1/s (next tried 45.2/s: ttft p99 231 ms, limit 200 ms)"
    assert line in " ".join(shown(render_summary(summary)).split())
    assert line in summary_html(summary)


def test_no_line_without_a_search(make_summary, shown):
    """Neither here nor there."""
    assert "search" not in shown(render_summary(make_summary()))
    assert "search" not in summary_html(make_summary())


def test_a_search_that_found_nothing_says_why_once(make_summary, shown):
    """The reason of the verdict has it."""
    search = {**FOUND, "status": "client_bound", "value": None, "at_least": 40.0, "why": "at 50/s the generator was the limit"}
    text = " ".join(shown(render_summary(make_summary(document={"provenance": {"search": search}}))).split())
    assert "search: 2 trials, highest rate within SLO not known, at least 40/s" in text
    assert text.count("at 50/s the generator was the limit") == 1
    assert "degraded" in text


def test_texts_of_a_site_stay_texts(make_summary, shown):
    """No control characters in a terminal, no markup in a page."""
    search = {**FOUND, "next_why": "\x1b[31mred\x1b[0m <script>alert(1)</script>\nx"}
    summary = make_summary(document={"provenance": {"search": search}})
    assert "\x1b" not in shown(render_summary(summary))
    assert "<script>" not in summary_html(summary)
