"""The model of a config, for tools that look at it without a run."""

from __future__ import annotations

import logging
import os.path as osp
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmpvg.checkpoints.safe_load import RefusedFileError
from mmpvg.utils.errors import MissingFileError

from .host import fit_to_host
from .preflight import refuse_code_in_data


def read_config(config: str | Path) -> Config:
    """Read a config file.

    Raises:
        MissingFileError: If it does not exist.
        RefusedFileError: If it is YAML, which mmengine reads with a loader that runs code.
    """
    if not osp.isfile(config):
        raise MissingFileError(f'config {config} does not exist; see configs/ for what there is')
    if Path(config).suffix in ('.yaml', '.yml'):
        raise RefusedFileError(
            f"config {config} would be read with PyYAML's full loader, which can run any code; "
            'write it as .py or .json'
        )
    return Config.fromfile(config)


def build_config_model(config: str, options: dict | None = None) -> tuple[Config, nn.Module]:
    """Build the model of a config as a run on this host would, untrained and without its data.

    Args:
        config: The config file.
        options: Settings that override the config.

    Returns:
        The config, and the model.

    Raises:
        MissingFileError: If the config does not exist.
        RefusedFileError: If the model reads a file in a format that runs code.
    """
    MMLogger.get_instance('mmengine', log_level=logging.ERROR)
    cfg = read_config(config)
    cfg.merge_from_dict(options or {})
    refuse_code_in_data(cfg)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    fit_to_host(cfg)
    complete_model(cfg)
    return cfg, MODELS.build(cfg.model)


def complete_model(cfg: Config) -> None:
    """Put the data preprocessor of a config into its model, as a Runner does."""
    if cfg.get('data_preprocessor') is not None:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
