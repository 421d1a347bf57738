"""Bytes that operators move, and the rates of this machine."""

import pytest
import torch
import torch.nn.functional as F

from benchmarks.speed.floor import measure_rates, moved_bytes

A, B = torch.randn(2, 100, 50)


@pytest.mark.parametrize(
    ('call', 'numbers'),
    [
        (lambda: A + B, 3 * 5000),
        (lambda: A.view(50, 100).transpose(0, 1)[3:].unflatten(0, (-1, 1)), 0),
        (lambda: A.t().contiguous(), 2 * 5000),
        (lambda: A @ B.t(), 2 * 5000 + 100 * 100),
        (lambda: F.relu(A).add_(B), 2 * 5000 + 3 * 5000),
        (lambda: torch.empty(7, 7), 0),
    ],
    ids=['sum', 'views', 'copy', 'product', 'in place', 'empty'],
)
def test_moved_bytes(call, numbers):
    assert moved_bytes(call) == 4 * numbers


def test_rates_are_a_machines():
    rates = measure_rates(rounds=1)
    # Between a pocket calculator and all machines there are.
    assert 1e6 < rates.operations < 1e18 and 1e6 < rates.bytes < 1e15
