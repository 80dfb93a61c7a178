import re
from pathlib import Path

import matplotlib

from analysis.figures.style import Drawing, add_footnote, new_axes, write_drawings
from s3pot.images import decode_image


def drawing() -> Drawing:
    axes = new_axes("Title", "steps", "IoU")
    axes.plot([0, 1], [0.2, 0.4], label="line")
    add_footnote(axes.figure, "n = 2 images")
    return Drawing(name="line", title="Title", explanation="", alt="", figure=axes.figure)


def test_both_files_are_written(tmp_path: Path) -> None:
    paths = write_drawings([drawing()], tmp_path / "figures")
    assert [path.name for path in paths] == ["line.png", "line.svg"]
    picture = decode_image(paths[0].read_bytes(), "line.png")
    assert picture.shape[1] > 600
    assert paths[1].read_text(encoding="utf-8").startswith("<?xml")


def test_the_same_figure_is_the_same_file() -> None:
    assert drawing().svg == drawing().svg
    assert drawing().png == drawing().png


def test_the_style_leaves_other_figures_alone() -> None:
    before = dict(matplotlib.rcParams)
    assert drawing().svg
    assert dict(matplotlib.rcParams) == before


def test_no_module_asks_for_a_window_system(repository: Path) -> None:
    sources = list((repository / "analysis").rglob("*.py"))
    assert len(sources) > 20
    assert [path.name for path in sources if re.search(r"import.*pyplot|matplotlib\.use", path.read_text())] == []
