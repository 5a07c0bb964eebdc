import pytest

from sync_server.conflict.text import MAX_WORDS_TEXT, merge_text, merge_text_without_base


class TestCleanMerge:
    @pytest.mark.parametrize(
        ("base", "server", "client", "merged"),
        [
            ("a\nb\nc\n", "A\nb\nc\n", "a\nb\nC\n", "A\nb\nC\n"),
            ("a\nb\n", "A\nb\n", "a\nB\n", "A\nB\n"),
            ("the red fox runs", "the blue fox runs", "the red fox sleeps", "the blue fox sleeps"),
            ("今天天气很好", "昨天天气很好", "今天天气不好", "昨天天气不好"),
            ("a", "a\nb", "x\na", "x\na\nb"),
            ("a\nb\nc\n", "a\nc\n", "a\nb\nc\nd\n", "a\nc\nd\n"),
            ("one two", "one  two", "one two!", "one  two!"),
            ("a\r\nb\r\nc", "A\r\nb\r\nc", "a\r\nb\r\nC", "A\r\nb\r\nC"),
        ],
    )
    def test_lands_both_edits(self, base, server, client, merged):
        assert merge_text(base, server, client) == (merged, True)

    def test_of_the_same_insert_on_both_sides_has_it_once(self):
        assert merge_text("a\nz", "a\nnew\nz", "a\nnew\nz!") == ("a\nnew\nz!", True)

    def test_of_a_letter_and_its_mark_keeps_them_together(self):
        assert not merge_text("e", "e\u0301", "E").is_clean


class TestOverlap:
    def test_keeps_both_sides_as_whole_lines_the_servers_first(self):
        assert merge_text("at ten", "at two", "at six") == ("at two\nat six", False)

    def test_of_two_inserts_at_the_same_place_is_not_clean(self):
        assert merge_text("a\nz\n", "a\nserver\nz\n", "a\nclient\nz\n") == ("a\nserver\nclient\nz\n", False)

    def test_of_a_deletion_and_an_edit_keeps_the_edit(self):
        assert merge_text("a\nb\nc\n", "a\nc\n", "a\nB\nc\n") == ("a\nB\nc\n", False)

    def test_leaves_what_merges_elsewhere_merged(self):
        merged = merge_text("a\nb\nc\nd\n", "A\nb\nc\nserver\n", "a\nb\nc\nclient\n")
        assert merged == ("A\nb\nc\nserver\nclient\n", False)


class TestLongText:
    def test_of_one_line_still_merges_edits_far_apart(self):
        base = "字" * 200_000
        server, client = f"x{base}", f"{base}y"
        assert merge_text(base, server, client) == (f"x{base}y", True)

    def test_of_one_line_still_merges_edits_close_together_by_words(self):
        base = "start " + "word " * 30_000 + "a b c " + "word " * 1_000 + "end"
        assert merge_text(base, base.replace("a b", "A b"), base.replace("b c", "b C")).is_clean

    def test_that_would_cost_too_much_keeps_both_sides_whole(self):
        server, client = "s " * MAX_WORDS_TEXT, "c " * MAX_WORDS_TEXT
        assert merge_text("b " * MAX_WORDS_TEXT, server, client) == (f"{server}\n{client}", False)


class TestMergeWithoutBase:
    def test_has_shared_lines_once_and_the_others_side_by_side(self):
        assert merge_text_without_base("a\nserver\nz\n", "a\nclient\nz\n") == "a\nserver\nclient\nz\n"
