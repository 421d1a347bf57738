"""Loads the ViT of any model, reads its images, and records what its blocks compute."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn

from mmpvg.utils.errors import UserError

from ..models.backbones import PlainViT
from ..models.layers.windows import Grid


@dataclass(frozen=True)
class InspectedModel:
    """A backbone with trained weights, in evaluation mode, and the format of its images.

    Attributes:
        name: Its name in tables and pictures.
        vit: The backbone.
        mean: Subtracted from each channel, in the order of the network's channels.
        std: Divided by, in the same order.
        rgb: Whether the network takes RGB; else BGR.
        reader: Reads an image file as the config's test pipeline does; by default, and where that
            reads no files, in three channels.
    """

    name: str
    vit: PlainViT
    mean: tuple[float, ...]
    std: tuple[float, ...]
    rgb: bool
    reader: Callable[[Path], np.ndarray] | None = None

    @property
    def native_size(self) -> tuple[int, int]:
        """(H, W) in pixels, of the PE table's own grid."""
        return tuple(side * self.vit.patch_embed.patch_size for side in native_grid(self.vit))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.vit.parameters()).device

    def read_images(self, files: Sequence[Path], size: tuple[int, int]) -> Tensor:
        """Read, resize and normalize images as the model's data preprocessor would.

        Args:
            files: Image files.
            size: (H, W) in pixels, which every image is stretched to.

        Returns:
            (B, C, H, W), on the model's device.

        Raises:
            BrokenSampleError: If a file is no image that can be read.
        """
        import mmcv

        from mmpvg.apis.inference.reading import ImageReader
        from mmpvg.datasets.checked_loading import BrokenSampleError

        reader = self.reader or ImageReader()
        images = []
        for file in files:
            try:
                image = reader(Path(file))
                for doubt in reader.doubts(Path(file)):
                    warnings.warn(doubt, stacklevel=2)
            except BrokenSampleError as error:
                raise BrokenSampleError(f'{file} cannot be used: {error}') from error
            image = mmcv.imresize(image, (size[1], size[0]))
            image = image[..., None] if image.ndim == 2 else image
            if self.rgb and image.shape[2] == 3:
                image = image[..., ::-1]
            images.append(torch.from_numpy(image.copy()).permute(2, 0, 1).float())
        batch = torch.stack(images).to(self.device)
        mean, std = (batch.new_tensor(v).view(-1, 1, 1) for v in (self.mean, self.std))
        return (batch - mean) / std


def open_model(
    config: str | Path,
    checkpoint: str | Path,
    options: dict | None = None,
    name: str | None = None,
    device: str = 'cpu',
) -> InspectedModel:
    """Build the model of a config, load a checkpoint, and take out the ViT.

    Args:
        config: Config of a detector, segmenter, classifier or retriever.
        checkpoint: Its weights; ``none`` for the untrained model.
        options: Settings that override the config.
        name: Its name; by default the config's.
        device: The device.

    Raises:
        UserError: If a file is missing, the checkpoint does not fit the config, the model has no
            ViT of this project, or there is no such device.
    """
    # Imports the packages of the config's task.
    from mmpvg.apis.inference.reading import reader_of
    from mmpvg.checkpoints.strict import load_weights
    from mmpvg.engine.config.backbone import find_vit
    from mmpvg.engine.config.config_model import build_config_model
    from mmpvg.engine.config.host import check_device

    check_device(device)
    cfg, model = build_config_model(str(config), options)
    if str(checkpoint) != 'none':
        load_weights(model, checkpoint)
    vit = find_vit(model).eval().requires_grad_(False).to(device)
    for block in vit.blocks:
        # Gradients are taken several times through one pass, which a compiled kernel may refuse.
        block.attn.flex = False
    reader, normalization = reader_of(cfg), _normalization(cfg)
    if reader is None and cfg.get('test_dataloader') is not None:
        # Data sets without files, CIFAR's, give RGB, which the data preprocessor need not turn.
        normalization['rgb'] = True
    return InspectedModel(name or Path(config).stem, vit, **normalization, reader=reader)


def native_grid(vit: PlainViT) -> Grid:
    """Return the grid of the PE table; 14x14 for a network without one."""
    return (14, 14) if vit.position_embedding is None else vit.position_embedding.grid


def image_files(
    path: str | Path, limit: int | None = None, left_out: Path | None = None
) -> list[Path]:
    """List the images of a folder and the folders in it by name, or one image.

    Args:
        path: A folder or a file.
        limit: Largest number of images, spread evenly.
        left_out: A folder that is left out, such as that of the results.

    Raises:
        UserError: If there is no such file or folder, or no image.
    """
    from mmpvg.apis.inference.inputs import check_source, find_images, is_video

    source = check_source(path)
    if is_video(source):
        raise UserError(f'{path} is a video; give an image or a folder of images')
    files = [item.path for item in find_images(source, left_out).items]
    if limit is None or limit >= len(files):
        return files
    return [files[index * len(files) // limit] for index in range(limit)]


class BlockRecord(NamedTuple):
    """Input and output of a block, patches alone, without class token and registers.

    Attributes:
        embedding: ``LN_x,l(x_l)``, the tokens that enter its attention before the PE is added, of
            shape (B, h*w, D).
        pe: The PE delivered to it, (h*w, D), or None.
        output: (B, h*w, D).
    """

    embedding: Tensor
    pe: Tensor | None
    output: Tensor


class NetworkRecord(NamedTuple):
    """Inputs and outputs of a network's blocks.

    Attributes:
        grid: (h, w), in patches.
        blocks: Every block.
        table: The PE table on this grid, (h*w, D), or None.
        last: The network's output, after the last norm and its PE where it has them, (B, h*w, D).
    """

    grid: Grid
    blocks: list[BlockRecord]
    table: Tensor | None
    last: Tensor


def record_network(vit: PlainViT, images: Tensor) -> NetworkRecord:
    """Run a network on images (B, C, H, W) and record the input and output of every block."""
    with _watched_blocks(vit) as blocks:
        vit(images)
    grid = blocks[0][2]
    patches = slice(-grid[0] * grid[1], None)

    def rows(pe: Tensor | None) -> Tensor | None:
        return None if pe is None else pe[0, patches]

    records = [BlockRecord(e[:, patches], rows(pe), out[:, patches]) for e, pe, _, out in blocks]
    last_pe = rows(vit.deliver_pe(grid).last_norm)
    last = records[-1].output if vit.norm is None else vit.norm(records[-1].output)
    last = last if last_pe is None else last + last_pe
    position_embedding = vit.position_embedding
    table = None if position_embedding is None else rows(position_embedding(grid))
    return NetworkRecord(grid, records, table, last)


@contextmanager
def _watched_blocks(vit: PlainViT) -> Iterator[list[tuple]]:
    """Collect (embedding, pe, grid, output) of each block as it runs."""
    found: list[tuple] = []
    embeddings: list[Tensor] = []

    def after_norm(module: nn.Module, args: tuple, output: Tensor) -> None:
        embeddings.append(output)

    def after_block(module: nn.Module, args: tuple, output: Tensor) -> None:
        _, pe, grid = args
        found.append((embeddings.pop(), pe, tuple(grid), output))

    handles = [block.norm1.register_forward_hook(after_norm) for block in vit.blocks]
    handles += [block.register_forward_hook(after_block) for block in vit.blocks]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _normalization(cfg: Config) -> dict[str, Any]:
    given = cfg.model.get('data_preprocessor') or {}
    return dict(
        mean=tuple(given.get('mean') or (0.0,)),
        std=tuple(given.get('std') or (1.0,)),
        rgb=bool(given.get('bgr_to_rgb', given.get('to_rgb', False))),
    )
