"""Print the table of models from the configs, and keep the metafiles and READMEs by it.

    python tools/misc/model_zoo.py mask_rcnn upernet     # print
    python tools/misc/model_zoo.py --update              # write metafile.yml and README.md of all

What a config says (parameters, multiply-adds, schedule, batch, start) is taken from the config.
Published figures, and what was measured, are kept by hand in metafile.yml, and so are the rows of
a config with options (`Options: {model.backbone.pe_delivery: lape}`). Multiply-adds are counted
once for models that differ in nothing that costs; --count counts those again that metafile.yml has.
"""

import argparse
import copy
import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm

from mmpvg.analysis.flops import part_costs
from mmpvg.engine.config.backbone import backbone_configs
from mmpvg.engine.config.config_model import build_config_model

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
START, END = '<!-- models: written by tools/misc/model_zoo.py -->', '<!-- end of models -->'

# Folders of configs, and the images on which multiply-adds are counted, in pixels: mmdet's usual
# size for COCO, the crop of a segmenter, the native size of a classifier.
SHAPES = {
    'mask_rcnn': (800, 1280),
    'cascade_mask_rcnn': (800, 1280),
    'vitdet': (1024, 1024),
    'upernet': (512, 512),
    'segmenter': (512, 512),
    'classification': (224, 224),
    'retrieval': (224, 224),
}
# The same for patches of 14 pixels: what those models pad an image of that size to, and their crop.
_SHAPES_OF_P14 = {'mask_rcnn': (812, 1288), 'upernet': (504, 504)}
_DATA = {
    'coco': 'COCO 2017',
    'ade20k': 'ADE20K',
    'in1k': 'ImageNet-1K',
    'cifar100': 'CIFAR-100',
    'inshop': 'In-shop Clothes',
}
_STARTS = {
    'deit_': 'DeiT, ImageNet-1K',
    'vit_base_patch16_224.mae': 'MAE, ImageNet-1K',
    'vit_relpos_': 'timm vit_relpos, ImageNet-1K',
    'vit_small_patch14_dinov2': 'DINOv2, LVD-142M',
    'vit_small_patch8_224.dino': 'DINO, ImageNet-1K',
}
NOT_TRAINED = 'not trained here'


def config_metadata(
    config: Path, macs: int | None = None, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Make the metadata of a config's model from the config itself.

    Args:
        config: A leaf of ``configs/``.
        macs: Multiply-adds where they are known; counted otherwise, which takes seconds to a
            minute.
        options: Settings that override the config's, as ``--cfg-options`` gives them.

    Returns:
        ``Metadata`` of a metafile: training data, pre-training, schedule, total batch, parameters,
        multiply-adds and the image they are counted on.
    """
    cfg, model = build_config_model(str(config), dict(options or {}))
    shape = _shape(config)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if macs is None:
        costs = part_costs(revert_sync_batchnorm(model), shape)
        macs = sum(cost.macs for cost in costs)
    loop = cfg.train_cfg
    return {
        'Training Data': next(name for key, name in _DATA.items() if f'_{key}' in config.stem),
        'Pre-training': _pre_training(cfg),
        'Schedule': f'{loop.max_epochs} epochs'
        if 'max_epochs' in loop
        else f'{loop.max_iters} iterations',
        'Batch Size': cfg.auto_scale_lr.base_batch_size,
        'Parameters': parameters,
        'FLOPs': macs,
        'Image Size': f'{shape[0]}x{shape[1]}',
    }


def cost_key(config: Path, options: Mapping[str, Any] | None = None) -> str:
    """A digest of what the multiply-adds of a config with some options depend on.

    It is the model, but for how the PE is delivered, and the image.
    """
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(dict(options or {}))
    model = copy.deepcopy(cfg.model)
    for backbone in backbone_configs(model):
        backbone.pop('init_cfg', None)
        if backbone.get('pe_delivery') != 'none':
            backbone.pop('pe_delivery', None)
    return hashlib.sha256(repr((model.to_dict(), _shape(config))).encode()).hexdigest()[:12]


def update_metafile(
    folder: Path,
    previous: Mapping[str, Any],
    count: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Make the metafile of a folder of configs from its configs.

    What configs do not say stays: the collection, published figures, results measured by us, and
    the rows of a config with ``Options`` (settings that override it, by their names).

    Args:
        folder: A folder of ``configs/``.
        previous: The metafile as it is.
        count: Whether multiply-adds are counted again, or taken from ``previous`` where it has
            those of this very model.
        progress: Called after each row with how many are done, of how many, and the name.

    Returns:
        The metafile.
    """
    rows = [
        (config, row)
        for config in sorted(folder.glob('*.py'), key=_order)
        for row in _rows(config, previous.get('Models', ()))
    ]
    counted: dict[str, int] = {}
    models = []
    for done, (config, row) in enumerate(rows, 1):
        options = row.get('Options', {})
        name, key = ' '.join([config.stem, *_options(options)]), cost_key(config, options)
        known, before = counted.get(key), row.get('Metadata', {})
        if known is None and not count and before.get('Counted Model') == key:
            known = before['FLOPs']
        metadata = {**config_metadata(config, known, options), 'Counted Model': key}
        counted[key] = metadata['FLOPs']
        models.append(
            {
                'Name': name,
                'In Collection': previous['Collections'][0]['Name'],
                'Config': f'configs/{folder.name}/{config.name}',
                **({'Options': options} if options else {}),
                'Metadata': metadata,
                **{part: row[part] for part in ('Published', 'Results', 'Weights') if part in row},
            }
        )
        if progress is not None:
            progress(done, len(rows), name)
    return {'Collections': previous['Collections'], 'Models': models}


def format_table(metafile: Mapping[str, Any]) -> str:
    """Format the models of a metafile as a Markdown table; published and measured are apart."""
    lines = [
        '| config | `--cfg-options` | pre-training | schedule, batch | parameters (M) '
        '| multiply-adds (G) | published | measured |',
        '|---|---|---|---|---|---|---|---|',
    ]
    for model in metafile['Models']:
        data = model['Metadata']
        config = Path(model['Config'])
        cells = [
            f'[{config.stem}]({config.name})',
            ' '.join(f'`{option}`' for option in _options(model.get('Options', {}))) or '-',
            data['Pre-training'],
            f'{data["Schedule"]}, {data["Batch Size"]}',
            f'{data["Parameters"] / 1e6:.2f}',
            f'{data["FLOPs"] / 1e9:.2f} at {data["Image Size"]}',
            '; '.join(_published(entry) for entry in model.get('Published', ())) or '-',
            '; '.join(_figures(result['Metrics']) for result in model.get('Results', ()))
            or NOT_TRAINED,
        ]
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def _rows(config: Path, models: Sequence[Mapping]) -> list[Mapping]:
    """A config's own row, which mmengine's ``get_config`` takes, then those with options."""
    rows = [row for row in models if Path(row['Config']).name == config.name]
    plain = [row for row in rows if not row.get('Options')] or [{}]
    return [*plain, *(row for row in rows if row.get('Options'))]


def _options(options: Mapping[str, Any]) -> list[str]:
    return [f'{key}={value}' for key, value in options.items()]


def _shape(config: Path) -> tuple[int, int]:
    if 'cifar' in config.stem:
        return 32, 32
    return (_SHAPES_OF_P14 if '-p14_' in config.stem else SHAPES)[config.parent.name]


def _pre_training(cfg: Config) -> str:
    for backbone in backbone_configs(cfg.model):
        if start := backbone.get('init_cfg'):
            name = start.checkpoint.removeprefix('timm://')
            return next(text for prefix, text in _STARTS.items() if name.startswith(prefix))
    return 'none'


def _order(config: Path) -> tuple:
    """By kind, patch and size ascending, then deliveries as the papers list them, then extras."""
    head, _, rest = config.stem.partition('vit-')
    parts = rest.removeprefix('adapter-').split('_')
    (size, _, patch), method, recipe = parts[0].partition('-p'), parts[1], parts[2:]
    delivery, *extras = method.split('-')
    return (
        head,
        rest.startswith('adapter-'),
        patch,
        recipe[-1],
        ('lite', 't', 's', 'b').index(size),
        recipe,
        len(extras),
        ('default', 'lape', 'pvg', 'mpvg', 'none').index(delivery),
        config.stem,
    )


def _figures(metrics: Mapping[str, float]) -> str:
    return ', '.join(f'{name} {value}' for name, value in metrics.items())


def _published(entry: Mapping[str, Any]) -> str:
    return f'{_figures(entry["Metrics"])} ({entry["Source"]})'


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folders', nargs='*', help=f'of {", ".join(SHAPES)}; all by default')
    parser.add_argument('--update', action='store_true', help='write metafile.yml and README.md')
    parser.add_argument('--count', action='store_true', help='count all multiply-adds again')
    args = parser.parse_args()
    if unknown := set(args.folders) - set(SHAPES):
        parser.error(f'no models in {", ".join(sorted(unknown))}; choose {", ".join(SHAPES)}')
    for name in args.folders or SHAPES:
        folder = CONFIGS / name
        file = folder / 'metafile.yml'
        metafile = update_metafile(folder, yaml.safe_load(file.read_text()), args.count, show)
        table = format_table(metafile)
        print(f'\n## {name}\n\n{table}')
        if args.update:
            file.write_text(yaml.safe_dump(metafile, sort_keys=False, width=100))
            write_table(folder / 'README.md', table)


def show(done: int, of: int, name: str) -> None:
    print(f'\r{done}/{of} {name:<80}', end='' if done < of else '\n', file=sys.stderr, flush=True)


def write_table(readme: Path, table: str) -> None:
    """Put the table between the two marks of a README."""
    text = readme.read_text()
    if START not in text or END not in text:
        sys.exit(f'{readme} lacks the marks {START!r} and {END!r}, between which the table goes')
    before, after = text.split(START)[0], text.split(END)[1]
    readme.write_text(f'{before}{START}\n\n{table}\n\n{END}{after}')


if __name__ == '__main__':
    main()
