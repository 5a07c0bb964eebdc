from docs.settings_table import PAGE, with_table


class TestSettingsPage:
    def test_has_the_table_of_the_model(self) -> None:
        page = PAGE.read_text(encoding="utf-8")

        assert page == with_table(page), "docs/settings.md is out of date: run `make docs`"
