"""Writes the state table of docs/client.md from the client's own: `make docs`."""

from pathlib import Path

from sync_client.states import table

PAGE = Path(__file__).with_name("client.md")
BEGIN = "<!-- states: written by `make docs` -->\n"
END = "<!-- end of states -->\n"


def with_table(page: str) -> str:
    """The page with its table as it should be now."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
