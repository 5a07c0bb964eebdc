"""Writes the table of docs/settings.md from the settings model: `make docs`."""

from pathlib import Path
from typing import Any

from sync_server.config import Settings, default_text, variable_name

PAGE = Path(__file__).with_name("settings.md")
BEGIN = "<!-- settings: written by `make docs` -->\n"
END = "<!-- end of settings -->\n"


def settings_table() -> str:
    """A row for each setting, in the order of the model."""
    properties = Settings.model_json_schema()["properties"]
    rows = [
        f"| `{variable_name(name)}` | {_default(name)} | {_values(properties[name])} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(["| variable | default | values | meaning |", "| --- | --- | --- | --- |", *rows]) + "\n"


def with_table(page: str) -> str:
    """The page with its table as it should be now."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{settings_table()}\n{END}{after}"


def _default(name: str) -> str:
    text = default_text(Settings.model_fields[name])
    return f"`{text}`" if text is not None else ""


def _values(schema: dict[str, Any]) -> str:
    known = schema.get("anyOf", [schema])[0]
    if "enum" in known:
        return ", ".join(f"`{value}`" for value in known["enum"])
    if "exclusiveMinimum" in known:
        return f"above {known['exclusiveMinimum']:g}, to {known['maximum']:g}"
    if "minimum" in known:
        return f"{known['minimum']:.12g} to {known['maximum']:.12g}"
    return ""


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
