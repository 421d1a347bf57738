"""Fully sharded data parallel (FSDP)."""

from __future__ import annotations

from typing import Any

import torch
from mmengine._strategy import FSDPStrategy as MMEngineFSDPStrategy
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.optim import BaseOptimWrapper, OptimWrapper
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

from mmpvg.checkpoints.training_state import unwrapped_name
from mmpvg.engine.hooks.checkpoint import resume_hint
from mmpvg.models.layers import Block, CompactBlock
from mmpvg.registry import STRATEGIES
from mmpvg.utils.errors import UserError
from mmpvg.utils.whole_file import whole_file


@STRATEGIES.register_module()
class FSDPStrategy(MMEngineFSDPStrategy):
    """mmengine's FSDP by transformer block, with the results of DistributedDataParallel.

    ``--fsdp`` of ``tools/train.py`` chooses it.

    - Groups of the optimizer are made of the whole parameters. mmengine makes them of the parts,
      which are vectors, so that no weight has weight decay.
    - Gradients are clipped by their norm over all processes.
    - Checkpoints are those of a run without FSDP, the optimizer's state included: ``tools/test.py``
      reads them, and ``--resume`` goes on with FSDP or without. They are written in one step.

    Args:
        model_wrapper: Arguments of mmengine's ``MMFullyShardedDataParallel``, for instance
            ``dict(sharding_strategy='HYBRID_SHARD')`` to shard within a node alone. By default
            all is sharded over all processes, in units of a block.
        **kwargs: mmengine's.
    """

    def __init__(self, *, model_wrapper: dict | None = None, **kwargs: Any) -> None:
        defaults = dict(
            type='MMFullyShardedDataParallel',
            auto_wrap_policy=ModuleWrapPolicy({Block, CompactBlock}),
            # Parameters of one block are trained differently: with and without weight decay.
            use_orig_params=True,
        )
        kwargs.setdefault('state_dict_cfg', 'full')
        super().__init__(model_wrapper={**defaults, **(model_wrapper or {})}, **kwargs)
        if get_device() == 'cpu':
            # To move there what is there gives torch's memory back while it is read.
            self.state_dict_config.offload_to_cpu = False
            self.optim_state_dict_config.offload_to_cpu = False

    def prepare(
        self, model: nn.Module | dict, *, optim_wrapper: Any = None, **kwargs: Any
    ) -> tuple:
        """Build the model, the optimizer of the whole parameters, and the schedulers."""
        if isinstance(optim_wrapper, dict):
            model = self.build_model(model)
            optim_wrapper = super().build_optim_wrapper(optim_wrapper, model)
        return super().prepare(model, optim_wrapper=optim_wrapper, **kwargs)

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        # Not LOCAL_RANK as in mmengine, which is no device on a CPU-only host.
        device = get_device()
        index = torch.cuda.current_device() if device == 'cuda' else None
        self.model_wrapper.setdefault('device_id', torch.device(device, index))
        return super()._wrap_model(model)

    def build_optim_wrapper(
        self, optim_wrapper: BaseOptimWrapper | dict, model: nn.Module | None = None
    ) -> BaseOptimWrapper:
        """Replace the whole parameters in an optimizer by the parts.

        Args:
            optim_wrapper: Built on the model before it was wrapped.
            model: The wrapped model.

        Raises:
            TypeError: If there are several optimizers.
        """
        if not isinstance(optim_wrapper, OptimWrapper):
            raise TypeError(
                f'FSDPStrategy trains with one optimizer, not a {type(optim_wrapper).__name__}; '
                'train without --fsdp'
            )
        parts = {unwrapped_name(name): part for name, part in model.named_parameters()}
        for group in optim_wrapper.optimizer.param_groups:
            group['params'] = [parts[self.id_to_name[id(whole)]] for whole in group['params']]
        if getattr(optim_wrapper, 'grad_name', None) == 'grad_norm':
            optim_wrapper.clip_func = lambda params, **settings: model.clip_grad_norm_(**settings)
        return optim_wrapper

    def save_checkpoint(self, filename: str, **kwargs: Any) -> None:
        """Gather a checkpoint from all processes, and write it in one step; see mmengine."""
        if not is_main_process() or not isinstance(get_file_backend(filename), LocalBackend):
            super().save_checkpoint(filename, **kwargs)
            return
        with resume_hint(), whole_file(filename) as part:
            super().save_checkpoint(str(part), **kwargs)

    def model_state_dict(self) -> dict:
        """Gather the whole weights in the first process; the others return nothing."""
        state_dict = super().model_state_dict()
        for name, value in state_dict.items():
            # Without the mark of torch's FSDP, which no safe reader takes.
            state_dict[name] = value.detach()
        return state_dict

    def load_model_state_dict(self, state_dict: dict, **kwargs: Any) -> None:
        """Load whole weights, and log what does not fit."""
        kwargs.pop('revise_keys', None)
        found = self.model.load_state_dict(state_dict, **kwargs)
        for what, keys in zip(('missing', 'unexpected'), found):
            if keys:
                self.logger.warning(
                    f'{what} in the checkpoint: {", ".join(map(unwrapped_name, keys))}'
                )

    def optim_state_dict(self) -> dict:
        """Gather the state of the optimizer and of the loss scaler, as without FSDP.

        Returns:
            The state of the whole parameters, numbered in the order of the groups, in the first
            process; nothing in the others.
        """
        sharded = FSDP.optim_state_dict(self.model, self.optim_wrapper.optimizer)
        if not sharded:
            return {}
        number = {name: place for place, name in enumerate(_names(sharded['param_groups']))}
        return {
            # What mmengine's wrappers keep beside the optimizer's.
            **self.optim_wrapper.state_dict(),
            'state': {number[name]: values for name, values in sharded['state'].items()},
            'param_groups': [
                {**group, 'params': [number[name] for name in group['params']]}
                for group in sharded['param_groups']
            ],
        }

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load the state of ``optim_state_dict``, or of a run without FSDP.

        Raises:
            ValueError: If it is of other parameters.
        """
        own = self.optim_wrapper.optimizer.param_groups
        sizes = [len(group['params']) for group in own]
        saved = [len(group['params']) for group in state_dict['param_groups']]
        if sizes != saved:
            raise UserError(
                f'the optimizer has groups of {sizes} parameters, but the checkpoint of {saved}; '
                'resume with the config of the run that wrote it'
            )
        name_of = {id(part): unwrapped_name(name) for name, part in self.model.named_parameters()}
        names = [name_of[id(part)] for group in own for part in group['params']]
        groups = [
            {**group, 'params': [names[number] for number in group['params']]}
            for group in state_dict['param_groups']
        ]
        state = {names[number]: values for number, values in state_dict['state'].items()}
        sharded = FSDP.optim_state_dict_to_load(
            self.model,
            self.optim_wrapper.optimizer,
            {'state': state, 'param_groups': groups},
        )
        self.optim_wrapper.load_state_dict({**state_dict, **sharded})


def use_fsdp(cfg: Config) -> None:
    """Let a run shard its model: mmengine's FlexibleRunner with ``FSDPStrategy``.

    Settings of the strategy may be in the config, as ``strategy=dict(model_wrapper=...)``.

    Args:
        cfg: The config of the run, changed in place.

    Raises:
        ValueError: If the run has one process, or this torch has no FSDP for its device.
    """
    if cfg.get('launcher', 'none') == 'none':
        raise UserError(
            '--fsdp shards a model over several processes, and this run has one; start it with '
            'tools/dist_train.sh or tools/slurm_train.sh, or leave --fsdp out'
        )
    cfg.runner_type = 'FlexibleRunner'
    cfg.strategy = {'type': 'mmpvg.FSDPStrategy', **(cfg.get('strategy') or {})}
    if cfg.optim_wrapper.get('type') == 'AmpOptimWrapper':
        # The loss scale of all processes must be one.
        cfg.optim_wrapper.use_fsdp = True


def _names(groups: list[dict]) -> list[str]:
    return [name for group in groups for name in group['params']]
