"""Focal loss (Lin et al., RetinaNet, ICCV 2017, eq. 5), of each element and with its gradient.

1 - sigmoid(x) is taken as sigmoid(-x), and logarithms of sigmoids in one step. That keeps digits
that compiled mmcv loses, whose loss ends at a logit of about 88.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import lifted

_TINY = torch.finfo(torch.float32).tiny


def _log(x: Tensor) -> Tensor:
    # Of at least the smallest normal float32, as in compiled mmcv.
    return x.clamp(min=_TINY).log()


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the loss of each class of each row into ``output``.

    With p = sigmoid(x), it is -alpha (1 - p)^gamma log p for the row's class and
    -(1 - alpha) p^gamma log(1 - p) for the others.

    Args:
        input: (N, C) logits.
        target: (N,) classes; C is background, none of them.
        weight: (C,) factor of a row by its class, or empty.
        output: (N, C): the output.
        gamma: Exponent.
        alpha: Weight of positives.
    """
    (x,) = lifted(input, input)
    p, q = x.sigmoid(), (-x).sigmoid()
    positive = -alpha * q**gamma * F.logsigmoid(x)
    negative = -(1 - alpha) * p**gamma * F.logsigmoid(-x)
    _write_sigmoid(output, positive, negative, target, weight)


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the derivative of ``sigmoid_focal_loss_forward`` by its logits into ``grad_input``.

    Args:
        input: (N, C) logits.
        target: (N,) classes.
        weight: (C,), or empty.
        grad_input: (N, C): the output.
        gamma: Exponent.
        alpha: Weight of positives.
    """
    (x,) = lifted(input, input)
    p, q = x.sigmoid(), (-x).sigmoid()
    positive = -alpha * q**gamma * (q - gamma * p * F.logsigmoid(x))
    negative = -(1 - alpha) * p**gamma * (gamma * q * F.logsigmoid(-x) - p)
    _write_sigmoid(grad_input, positive, negative, target, weight)


def _write_sigmoid(
    output: Tensor, positive: Tensor, negative: Tensor, target: Tensor, weight: Tensor
) -> None:
    classes = torch.arange(positive.shape[1], device=target.device)
    values = torch.where(target[:, None] == classes, positive, negative)
    if weight.numel():
        values = values * weight.to(values)[target][:, None]
    output.copy_(values)


def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write -alpha (1 - p)^gamma log p into ``output``, with p the probability of the row's class.

    Args:
        input: (N, C) probabilities, after the softmax.
        target: (N,) classes; rows of a negative one give 0.
        weight: (C,) factor of a row by its class, or empty.
        output: (N,): the output.
        gamma: Exponent.
        alpha: Weight.
    """
    p, factor = _probability(input, target, weight)
    output.copy_(-alpha * (1 - p) ** gamma * _log(p) * factor)


def softmax_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Write the derivative of ``softmax_focal_loss_forward`` by the logits into ``grad_input``.

    Args:
        input: (N, C) probabilities.
        target: (N,) classes.
        weight: (C,), or empty.
        buff: (N,): set to the derivative by the logarithm of the row's own probability.
        grad_input: (N, C): the output.
        gamma: Exponent.
        alpha: Weight.
    """
    p, factor = _probability(input, target, weight)
    own = alpha * (gamma * (1 - p) ** (gamma - 1) * p * _log(p) - (1 - p) ** gamma) * factor
    # Rows without a class have a factor of 0, which does not undo an infinite power.
    own = torch.where(target >= 0, own, torch.zeros_like(own))
    buff.copy_(own)
    (probabilities,) = lifted(input, input)
    classes = torch.arange(input.shape[1], device=target.device)
    grad_input.copy_(own[:, None] * ((target[:, None] == classes).to(own) - probabilities))


def _probability(input: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    (probabilities,) = lifted(input, input)
    named = target.clamp(min=0)
    factor = (target >= 0).to(probabilities)
    if weight.numel():
        factor = factor * weight.to(factor)[named]
    return probabilities.gather(1, named[:, None])[:, 0], factor
