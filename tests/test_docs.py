"""What the documents link to exists, and nothing is left to be filled in."""

import re

import pytest


def documents(root):
    return [
        root / 'README.md',
        root / 'CONTRIBUTING.md',
        root / 'CHANGELOG.md',
        *sorted(root.glob('docs/**/*.md')),
        *sorted(root.glob('configs/**/*.md')),
    ]


def test_links_lead_somewhere(repo):
    found = documents(repo)
    assert len(found) > 8
    gone = []
    for document in found:
        for target in re.findall(r'\]\(([^)#\s]+)(?:#[^)]*)?\)', document.read_text()):
            if '://' not in target and not (document.parent / target).exists():
                gone.append(f'{document.relative_to(repo)}: {target}')
    assert not gone


def headings(document):
    """Anchors of a document, as GitHub and mkdocs make them."""
    titles = re.findall(r'^#+ (.+)$', document.read_text(), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', title.lower()).strip().replace(' ', '-') for title in titles}


def test_links_to_headings_lead_somewhere(repo):
    links = [
        (document, document.parent / target if target else document, anchor)
        for document in documents(repo)
        for target, anchor in re.findall(r'\]\(([^)#\s]*)#([^)\s]+)\)', document.read_text())
        if '://' not in target
    ]
    assert len(links) > 5
    gone = [f'{source.relative_to(repo)}: {a}' for source, to, a in links if a not in headings(to)]
    assert not gone


@pytest.mark.parametrize('mark', [r'@[A-Z]+@', r'\bTODO\b', r'\bFIXME\b', r'\bXXX\b'])
def test_nothing_is_left_to_be_filled_in(mark, repo):
    left = [str(d.relative_to(repo)) for d in documents(repo) if re.search(mark, d.read_text())]
    assert not left


def test_modules_that_are_run_are_there(repo):
    gone = [
        f'{document.relative_to(repo)}: {module}'
        for document in documents(repo)
        for module in re.findall(r'python -m ((?:mmpvg|benchmarks)[\w.]*\w)', document.read_text())
        if not (repo / f'{module.replace(".", "/")}.py').is_file()
        and not (repo / module.replace('.', '/') / '__main__.py').is_file()
    ]
    assert not gone


# Files that a reader is sent to: in prose and comments too, not only in links.
ROOMS = 'mmpvg|tests|tools|docs|configs|benchmarks|requirements'
NAMED = rf'(?<![\w/.-])((?:{ROOMS})/[\w./-]*\w\.(?:py|md|sh|txt|yml|png))'


def test_files_named_in_text_are_there(repo):
    sources = [
        path
        for room in ('mmpvg', 'tools', 'benchmarks', 'configs')
        for path in (repo / room).rglob('*.py')
    ]
    gone = [
        f'{path.relative_to(repo)}: {name}'
        for path in [*documents(repo), *sources]
        for name in re.findall(NAMED, path.read_text())
        if not (repo / name).exists()
    ]
    assert not gone


def test_commands_name_files_that_are_there(repo):
    gone = [
        f'{document.relative_to(repo)}: {script}'
        for document in documents(repo)
        for script in re.findall(r'(?:python|bash) (tools/[\w/]+\.(?:py|sh))', document.read_text())
        if not (repo / script).is_file()
    ]
    assert not gone
