"""What a PE delivery does to a network, in a handful of numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from torch import Tensor

from mmpvg.analysis.counterbalance import measure_counterbalance
from mmpvg.analysis.gaussian_fit import field_spread
from mmpvg.analysis.inspection import InspectedModel
from mmpvg.analysis.pe_similarity import delivered_tables, neighbor_contrast, resize_distortions
from mmpvg.analysis.pe_states import pe_state
from mmpvg.analysis.receptive_field import (
    accumulate_fields,
    center_features,
    share_outside,
)

#: Numbers of ``describe_delivery``: key -> heading of a table.
DELIVERY_NUMBERS = {
    'first correlation': 'correlation of tokens and delivered PE, first block with one',
    'last correlation': 'the same, last block',
    'last cosine': 'cosine of tokens before and after the last norm',
    'bias variance': "variance of the last norm's bias",
    'outside': "receptive field outside the token's own patch, last block",
    'spread': 'its spread, in patches',
    'outside, zeroed': 'outside with the PE zeroed',
    'contrast': 'neighbors are more alike than any two, PE table',
    'last contrast': 'the same, PE delivered to the last block',
    'resize error': 'error of similarities, table at 1.5 times x 2 times its grid',
}


def describe_delivery(
    model: InspectedModel, images: Callable[[], Iterable[Tensor]]
) -> dict[str, float]:
    """Look at a network by its counterbalance, its receptive field and its PE's similarity.

    Args:
        model: The network, with a PE.
        images: Makes batches of images of one size, at every call.

    Returns:
        The numbers of ``DELIVERY_NUMBERS``; NaN where the network has no such thing.
    """
    balance = measure_counterbalance(model.vit, images())
    correlations = balance.delivered.mean(0)
    delivered = correlations[np.isfinite(correlations)]
    end = balance.last_norm

    fields = {}
    for state in ('as it is', 'zeroed'):
        with pe_state(model.vit, state):
            # The last but one is the last block's, the last that behind the last norm.
            fields[state] = accumulate_fields(center_features(model.vit), images())[-2]
    patch_size = model.vit.patch_embed.patch_size

    tables = delivered_tables(model.vit)
    last_block = f'block {len(model.vit.blocks) - 1}'
    h, w = model.vit.position_embedding.grid
    resized = resize_distortions(model.vit, [(3 * h // 2, 2 * w)], ['bicubic'])
    return {
        'first correlation': float(delivered[0]) if len(delivered) else np.nan,
        'last correlation': float(delivered[-1]) if len(delivered) else np.nan,
        'last cosine': float(end.cosine.mean()),
        'bias variance': np.nan if end.bias_variance is None else end.bias_variance,
        'outside': share_outside(fields['as it is'], patch_size),
        'spread': float(np.mean(field_spread(fields['as it is']))) / patch_size,
        'outside, zeroed': share_outside(fields['zeroed'], patch_size),
        'contrast': neighbor_contrast(tables['table']),
        'last contrast': neighbor_contrast(tables[last_block]) if last_block in tables else np.nan,
        'resize error': next(d.error for d in resized if d.source == 'table'),
    }


def mean_and_spread(described: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Mean and sample standard deviation over the seeds of a delivery; NaN for a single seed."""
    numbers = {}
    for key in described[0]:
        values = np.array([one[key] for one in described])
        spread = float(values.std(ddof=1)) if len(values) > 1 else np.nan
        numbers[key] = float(values.mean()), spread
    return numbers
