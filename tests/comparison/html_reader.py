"""Reads a page as strictly as it was written: every element is closed, in its turn."""

from html.parser import HTMLParser

# Elements without an end.
_VOID = {'meta', 'img'}


class Page(HTMLParser):
    """What a page holds.

    Attributes:
        elements: Tag and attributes of all, in their order.
        cells: Rows of all tables, as text.
        text: All words outside the style.
    """

    def __init__(self, html):
        super().__init__()
        self.elements, self.cells, self.text = [], [], ''
        self._open = []
        self.feed(html)
        self.close()
        assert not self._open, f'{self._open} are left open'

    def count(self, tag):
        return sum(each == tag for each, _ in self.elements)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)
        if tag == 'tr':
            self.cells.append([])
        if tag in ('td', 'th'):
            self.cells[-1].append('')

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open and self._open.pop() == tag, f'</{tag}> in the wrong place'

    def handle_data(self, data):
        if 'style' in self._open:
            return
        self.text += data
        if {'td', 'th'} & set(self._open):
            self.cells[-1][-1] += data
