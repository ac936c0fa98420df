"""What is escaped, read back by another parser of Markdown."""

import markdown_it  # Rich brings it, which Flax needs.
import numpy as np
from absl.testing import parameterized

from jaxlung.report import markdown, tables

SIGNS = [
    *"\\`*_[]<>|~$&#!()-+.:;/\"'= \n\r\tab1\u00e9\u2028",
    "&lt;",
    "<b>",
    "**",
    "__",
    "](",
    "\\|",
]
PARSER = markdown_it.MarkdownIt("commonmark").enable(["table", "strikethrough"])


def read_tables(text):
    """Rows of cells of each table; a cell is its text, and anything but text in it an error."""
    found, in_cell = [], False
    for token in PARSER.parse(text):
        assert not token.type.startswith("html"), token
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type in ("td_open", "th_open"):
            found[-1][-1].append("")
            in_cell = True
        elif token.type in ("td_close", "th_close"):
            in_cell = False
        elif token.type == "inline" and in_cell:
            kinds = {child.type for child in token.children}
            assert kinds <= {"text", "text_special"}, (token.content, kinds)
            found[-1][-1][-1] = "".join(child.content for child in token.children)
    return found


class MarkdownTest(parameterized.TestCase):
    @parameterized.parameters(*range(60))
    def test_any_text_comes_back_from_a_cell(self, seed):
        np_rng = np.random.default_rng(seed)
        texts = [
            "x" + "".join(np_rng.choice(SIGNS, np_rng.integers(1, 12))) + "x" for _ in range(12)
        ]
        texts += [text[1:-1] for text in texts]
        rows = np.reshape(texts, (6, 4)).tolist()
        ((head, *got),) = read_tables(markdown.table(["a|", "_b_", "", "d"], rows))
        assert head == ["a|", "_b_", "", "d"]
        assert got == [[" ".join(cell.split()) for cell in row] for row in rows]

    def test_names_are_left_readable(self):
        assert markdown.escape("covid_qu_ex/infection, 34 X-rays (0.5)") == (
            "covid_qu_ex/infection, 34 X-rays (0.5)"
        )

    def test_a_table_of_the_report_keeps_titles_intervals_and_spans(self):
        cells = [tables.Cell("0.5", "0.4-0.6"), tables.Cell("0.7", span=2)]
        block = tables.Block(
            "F1", [tables.Row("macro", cells), tables.Row("micro", [tables.Cell("0.8", ""), None])]
        )
        plain = tables.Block("", [tables.Row("AUC", [tables.Cell("1"), tables.Cell("")])])
        shown = tables.Table([tables.Column("test", "4 images"), tables.Column("paper")], [])
        shown = tables.Table(shown.columns, [block, plain])
        assert read_tables(markdown.score_table(shown)) == [
            [
                ["", "test (4 images)", "paper"],
                ["F1: macro", "0.5 (0.4-0.6)", "0.7"],
                ["F1: micro", "0.8", "as above"],
                ["AUC", "1", ""],
            ]
        ]
