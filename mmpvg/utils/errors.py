"""Errors that a user can fix: command lines show their message alone, without a traceback."""

from __future__ import annotations

from collections.abc import Collection


class UserError(ValueError):
    """A mistake in a config, a command line or a file; the message names the value and the fix."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that a config or a command line names and that does not exist."""

    def __str__(self) -> str:
        # OSError's own would show the arguments of its constructor.
        return str(self.args[0])


class PackageError(UserError, ImportError):
    """Packages that are missing or do not fit together; the message holds the command to run."""


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Check that a setting has one of its values.

    Raises:
        UserError: If it has another one.
    """
    if value not in choices:
        raise UserError(f'unknown {name} {value!r}; choose one of {", ".join(choices)}')
