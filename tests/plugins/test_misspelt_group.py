"""A distribution whose entry-point group is nearly ours is told to its author."""

import pytest

from aifactory_bench import load_registry


@pytest.mark.parametrize(
    ("group", "told"),
    [("aifactory-bench", True), ("aifactory_bench.plugins", True), ("AIFactoryBench", True), ("pytest11", False)],
)
def test_it_is_left_out_with_a_warning(tmp_path, monkeypatch, group, told):
    """And nothing of it is imported."""
    info = tmp_path / "stub_plugin-1.2.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stub-plugin\nVersion: 1.2.3\n")
    (info / "entry_points.txt").write_text(f"[{group}]\nstub = no_such_module\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    warnings = [warning for warning in load_registry().warnings if "stub-plugin" in warning]
    text = f"plugin 'stub' of stub-plugin 1.2.3: the entry-point group '{group}' must be 'aifactory_bench'; left out"
    assert warnings == ([text] if told else [])
