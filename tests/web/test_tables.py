"""Tables: numbers to the right, texts to the left, nothing as markup."""

from __future__ import annotations

from bs4 import BeautifulSoup

from openchat_cli.web.tables import number, table, two_lines


def test_cells() -> None:
    rows = [["<b>", "12", two_lines("a", "below"), number("x", strong=True)]]
    page = BeautifulSoup(table("A < B", ["t", "n", "two", "strong"], rows), "html.parser")
    assert page.caption is not None and page.caption.text == "A < B"
    assert [cell.text for cell in page.find_all("td")] == ["<b>", "12", "abelow", "x"]
    for cells in (page.find_all("th"), page.find_all("td")):
        assert [cell.get("class") for cell in cells] == [None, ["n"], None, ["n"]]
    assert page.select_one("td b") is not None


def test_a_table_without_rows() -> None:
    page = BeautifulSoup(table("c", ["a", "b"], []), "html.parser")
    assert [head.text for head in page.find_all("th")] == ["a", "b"]
