"""Loads two checkpoints and the test images on which they are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mmpvg.checkpoints.strict import load_weights
from mmpvg.datasets.unwrap import innermost_config
from mmpvg.engine.config.config_model import build_config_model, read_config
from mmpvg.engine.config.preflight import check_data_files
from mmpvg.engine.hooks.class_count import check_data_classes
from mmpvg.utils import require_stack
from mmpvg.utils.errors import UserError


@dataclass(frozen=True)
class Candidate:
    """One of the two checkpoints.

    Attributes:
        name: Its name.
        config: Its config file.
        checkpoint: Its weights.
        cfg: The config.
        model: The model, with the weights.
        loader: The test images that both share, in their order, through its own pipeline.
    """

    name: str
    config: str
    checkpoint: str
    cfg: Config
    model: nn.Module
    loader: DataLoader

    @property
    def dataset(self) -> Dataset:
        """The test set."""
        return self.loader.dataset


def load_candidates(
    configs: Sequence[str | Path],
    checkpoints: Sequence[str | Path],
    names: Sequence[str] = ('A', 'B'),
    options: Mapping | None = None,
) -> tuple[Candidate, Candidate]:
    """Load two checkpoints, and the test set of A's config for both.

    Args:
        configs: Config of A, and of B; they may be the same.
        checkpoints: Files or URLs, of A and of B.
        names: Names of A and B.
        options: Settings that override both configs.

    Raises:
        ImportError: If a package that the configs need is missing or does not fit.
        UserError: If a file or the data is missing, the tasks or the classes differ, a checkpoint
            does not fit its config, or the task cannot be compared.
    """
    _check_tasks(configs)
    cfgs, models = zip(*(build_config_model(str(each), dict(options or {})) for each in configs))
    check_data_files(cfgs[0], 'test')
    loaders = [_loader(cfg, cfgs[0]) for cfg in cfgs]
    _check_classes(cfgs[1], loaders[0].dataset)
    for config, cfg, model, checkpoint, loader in zip(configs, cfgs, models, checkpoints, loaders):
        if (cfg.get('test_cfg') or {}).get('fp16'):
            raise UserError(
                f'{config} sets test_cfg.fp16, but checkpoints are compared in float32; pass '
                '--cfg-options test_cfg.fp16=False'
            )
        check_data_classes(model, loader.dataset, f'test_dataloader of {configs[0]}')
        load_weights(model, checkpoint)
        model.to(get_device()).eval()
    return tuple(
        Candidate(name, str(config), str(checkpoint), cfg, model, loader)
        for name, config, checkpoint, cfg, model, loader in zip(
            names, configs, checkpoints, cfgs, models, loaders
        )
    )


def same_test_set(cfg: Config, other: Config) -> bool:
    """Return whether two configs test on the same data, with any pipelines."""
    return _without_pipeline(cfg) == _without_pipeline(other)


def _check_tasks(configs: Sequence[str | Path]) -> None:
    scopes = [read_config(config).get('default_scope') for config in configs]
    for config, scope in zip(configs, scopes):
        if scope not in ('mmdet', 'mmseg'):
            raise UserError(
                f'{config} has default_scope {scope!r}; detectors (mmdet) and segmenters (mmseg) '
                'can be compared, whose predictions have a place in the image'
            )
    if scopes[0] != scopes[1]:
        raise UserError(
            f'{configs[0]} is of {scopes[0]}, {configs[1]} of {scopes[1]}; give two of one task'
        )
    require_stack(scopes[0])


def _loader(cfg: Config, first: Config) -> DataLoader:
    """Build the test images of the first config in their order, with another's pipeline."""
    loader = deepcopy(cfg.test_dataloader)
    loader.sampler = ConfigDict(type='DefaultSampler', shuffle=False)
    loader.pop('batch_sampler', None)
    if cfg is not first:
        pipeline = innermost_config(loader).get('pipeline')
        loader.dataset = deepcopy(first.test_dataloader.dataset)
        dataset = innermost_config(loader)
        if 'pipeline' in dataset and pipeline is not None:
            dataset.pipeline = pipeline
        elif cfg.test_dataloader.dataset != first.test_dataloader.dataset:
            raise UserError(
                'the test sets of the two configs differ, and one joins several data sets, each '
                'with a pipeline of its own; let both configs have the same test_dataloader'
            )
    return Runner.build_dataloader(loader)


def _check_classes(cfg: Config, dataset: Dataset) -> None:
    own = innermost_config(cfg.test_dataloader)
    if 'pipeline' not in own:
        return
    classes = DATASETS.build({**deepcopy(own), 'lazy_init': True}).metainfo.get('classes')
    if list(classes or ()) != list(dataset.metainfo.get('classes') or ()):
        raise UserError(
            f'the two configs have different classes: {_few(dataset.metainfo.get("classes"))} and '
            f'{_few(classes)}; only checkpoints for the same classes can be compared'
        )


def _few(classes: Sequence[str] | None) -> str:
    classes = list(classes or ())
    return f'{", ".join(classes[:8])}{", ..." if len(classes) > 8 else ""} ({len(classes)})'


def _without_pipeline(cfg: Config) -> dict:
    loader = deepcopy(cfg.test_dataloader)
    innermost_config(loader).pop('pipeline', None)
    return loader.dataset
