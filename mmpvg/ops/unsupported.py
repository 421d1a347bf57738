"""What the compiler-free operators lack: asking for it raises and says what to run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

INSTEAD = '`bash tools/setup_env.sh --ops compiled`'


def raise_unsupported(what: str) -> NoReturn:
    """Raise, in one sentence.

    Raises:
        NotImplementedError: Always.
    """
    raise NotImplementedError(f'{what} is not in the compiler-free operators: run {INSTEAD}.')


def unsupported(name: str) -> Callable[..., NoReturn]:
    """Make a function that stands for mmcv's operator ``name`` and raises when it is called."""

    def operator(*args: Any, **kwargs: Any) -> NoReturn:
        raise_unsupported(f"mmcv's operator {name}")

    operator.__name__ = operator.__qualname__ = name
    operator.__doc__ = f'Raises: {name} is not in the compiler-free operators.'
    return operator
