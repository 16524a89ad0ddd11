"""Generated parts of the docs are current."""

from tools.controls_table import PAGE, with_table


def test_the_table_of_controls_is_current() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert with_table(page) == page, "run `python tools/controls_table.py`"
