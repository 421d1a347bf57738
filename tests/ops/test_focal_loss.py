"""Focal losses against the paper's formula, in float64, and their gradients by autograd on it."""

import numpy as np
import pytest
import torch

from mmpvg.ops import extension


def sigmoid_loss(x, target, weight, gamma, alpha):
    """-alpha_t (1 - p_t)^gamma log p_t of every class; a target beyond the last is background."""
    positive = torch.nn.functional.one_hot(target, x.shape[1] + 1)[:, : x.shape[1]].bool()
    log_p = torch.where(positive, x, -x)
    log_p = torch.nn.functional.logsigmoid(log_p)
    alpha = positive.to(x) * alpha + (~positive).to(x) * (1 - alpha)
    loss = -alpha * (-log_p.expm1()) ** gamma * log_p
    return loss if weight is None else loss * weight[target][:, None]


def softmax_loss(x, target, weight, gamma, alpha):
    log_p = x.log_softmax(1).gather(1, target.clamp(min=0)[:, None])[:, 0]
    loss = -alpha * (1 - log_p.exp()) ** gamma * log_p
    if weight is not None:
        loss = loss * weight[target.clamp(min=0)]
    return torch.where(target >= 0, loss, torch.zeros_like(loss))


def case(rng, background):
    n, classes = (int(rng.integers(1, 8)) for _ in range(2))
    x = torch.from_numpy(rng.normal(size=(n, classes)) * 3)
    weight = torch.from_numpy(rng.random(classes)) if rng.random() < 0.3 else None
    low = -1 if background == 'negative' else 0
    high = classes + 1 if background == 'last' and weight is None else classes
    target = torch.from_numpy(rng.integers(low, high, n))
    return x, target, weight, float(rng.choice([0.5, 1, 2, 3.5])), float(rng.random())


@pytest.mark.parametrize('dtype, close', [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_sigmoid_values_and_gradients_of_1000_cases(dtype, close):
    rng = np.random.default_rng(0)
    for _ in range(1000):
        x, target, weight, gamma, alpha = case(rng, 'last')
        x = x.requires_grad_()
        expected = sigmoid_loss(x, target, weight, gamma, alpha)
        (gradient,) = torch.autograd.grad(expected.sum(), x)
        logits = x.detach().to(dtype)
        given = torch.empty(0) if weight is None else weight.to(dtype)
        loss, grad = torch.zeros_like(logits), torch.zeros_like(logits)
        extension.sigmoid_focal_loss_forward(logits, target, given, loss, gamma=gamma, alpha=alpha)
        extension.sigmoid_focal_loss_backward(logits, target, given, grad, gamma=gamma, alpha=alpha)
        torch.testing.assert_close(loss.double(), expected.detach(), atol=close, rtol=close)
        torch.testing.assert_close(grad.double(), gradient, atol=close, rtol=close)


@pytest.mark.parametrize('dtype, close', [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_softmax_values_and_gradients_of_1000_cases(dtype, close):
    rng = np.random.default_rng(0)
    for _ in range(1000):
        x, target, weight, gamma, alpha = case(rng, 'negative')
        if x.shape[1] == 1 and gamma < 1:
            # One class alone has probability 1, where (1 - p)^gamma has no derivative.
            continue
        x = x.requires_grad_()
        expected = softmax_loss(x, target, weight, gamma, alpha)
        (gradient,) = torch.autograd.grad(expected.sum(), x)
        p = x.detach().softmax(1).to(dtype)
        given = torch.empty(0) if weight is None else weight.to(dtype)
        loss, grad = p.new_zeros(len(p)), torch.zeros_like(p)
        extension.softmax_focal_loss_forward(p, target, given, loss, gamma=gamma, alpha=alpha)
        buff = p.new_zeros(len(p))
        extension.softmax_focal_loss_backward(
            p, target, given, buff, grad, gamma=gamma, alpha=alpha
        )
        torch.testing.assert_close(loss.double(), expected.detach(), atol=close, rtol=close)
        torch.testing.assert_close(grad.double(), gradient, atol=close, rtol=close)


@pytest.mark.parametrize('name', ['SigmoidFocalLossFunction', 'SoftmaxFocalLossFunction'])
@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
def test_mmcvs_functions_train_on_them(name, reduction, monkeypatch):
    from mmcv.ops import focal_loss as module

    monkeypatch.setattr(module, 'ext_module', extension)
    rng = np.random.default_rng(1)
    x = torch.from_numpy(rng.normal(size=(4, 3))).requires_grad_()
    target = torch.tensor([0, 2, 1, 1])
    if name.startswith('Softmax') and reduction == 'none':
        # mmcv multiplies (N, C) by (N,) there, which fits a square alone.
        reduction = 'sum'
    loss = getattr(module, name).apply

    assert torch.autograd.gradcheck(lambda x: loss(x, target, 2.0, 0.25, None, reduction), x)


def test_extreme_logits_and_half_precision_are_finite():
    x = torch.tensor([[200.0, -200.0, 0.0]])
    for target in ([0], [1], [3]):
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            logits, loss, grad = x.to(dtype), torch.zeros(1, 3).to(dtype), torch.zeros(1, 3)
            args = (logits, torch.tensor(target), torch.empty(0))
            extension.sigmoid_focal_loss_forward(*args, loss, gamma=2.0, alpha=0.25)
            extension.sigmoid_focal_loss_backward(*args, grad, gamma=2.0, alpha=0.25)
            assert loss.isfinite().all() and grad.isfinite().all()
            assert loss.dtype == dtype
