"""What the documents link to exists, and nothing is left to be filled in."""

import re

import pytest


def documents(root):
    return [
        root / 'README.md',
        *sorted(root.glob('docs/*.md')),
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


@pytest.mark.parametrize('mark', [r'@[A-Z]+@', r'\bTODO\b', r'\bFIXME\b', r'\bXXX\b'])
def test_nothing_is_left_to_be_filled_in(mark, repo):
    left = [str(d.relative_to(repo)) for d in documents(repo) if re.search(mark, d.read_text())]
    assert not left


def test_commands_name_files_that_are_there(repo):
    gone = [
        f'{document.relative_to(repo)}: {script}'
        for document in documents(repo)
        for script in re.findall(r'(?:python|bash) (tools/[\w/]+\.(?:py|sh))', document.read_text())
        if not (repo / script).is_file()
    ]
    assert not gone
