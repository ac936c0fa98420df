"""A parser of pages for tests."""

import html.parser

VOID = {"meta", "img", "source", "br", "link", "input", "hr"}


class Page(html.parser.HTMLParser):
    """Checks that tags balance; collects tags, references, images, cells, items and all text."""

    def __init__(self, text, small=""):
        super().__init__()
        self.open, self.tags, self.references, self.images = [], [], [], []
        self.rows, self.items, self.text = [], [], ""
        self.small = small  # Stands before the text of a <small>.
        self.feed(text)
        self.close()
        assert not self.open

    @property
    def alts(self):
        return [image["alt"] for image in self.images]

    @property
    def cells(self):
        """Heads and cells of all tables in one list."""
        return [" ".join(cell.split()) for row in self.rows for cell in row]

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.references += [attrs[name] for name in ("src", "href", "srcset") if name in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(attrs)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag in ("small", "dd"):
            self.handle_data(self.small if tag == "small" else " ")
        if tag in ("li", "article"):
            self.items.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += "" if "style" in self.open else data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data
        if {"li", "article"} & set(self.open):
            self.items[-1] += data
