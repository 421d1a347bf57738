"""Classification and retrieval configs: published sizes, recipes, a forward pass."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from mmpvg.datasets.sample import make_digits_dataset
from mmpvg.models import MPVGViT

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
LEAVES = sorted(
    str(path.relative_to(CONFIGS))
    for path in CONFIGS.rglob('*.py')
    if {'classification', 'retrieval'} & set(path.parts)
    or path.name.startswith(('classifier', 'retriever'))
)
IMAGENET = '8xb128-300e_in1k'
CIFAR = '1xb128-310e_cifar100'

# docs/papers.md, section 1: parameters of the whole classifier.
PUBLISHED = {
    't': dict(default=5_717_416, lape=5_722_024, pvg=5_721_256, mpvg=5_721_640),
    's': dict(default=22_050_664, lape=22_059_880, pvg=22_058_344, mpvg=22_059_112),
    'b': dict(default=86_567_656, lape=86_586_088, pvg=86_583_016, mpvg=86_584_552),
}
PUBLISHED_VIT_LITE = dict(default=3_740_004, lape=3_743_588, pvg=3_742_564, mpvg=3_743_076)
HEADS = {'t': 3, 's': 6, 'b': 12}


# The leaf, of which each delivery is an option.
LEAF_OF = {'default': 'default', 'lape': 'default', 'pvg': 'mpvg', 'mpvg': 'mpvg'}


def load(name, options=None):
    cfg = Config.fromfile(CONFIGS / name)
    cfg.merge_from_dict(options or {})
    return cfg


def build(cfg):
    init_default_scope(cfg.default_scope)
    model = copy.deepcopy(cfg.model)
    model.data_preprocessor = cfg.data_preprocessor
    return MODELS.build(model)


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize('delivery', ['default', 'lape', 'pvg', 'mpvg'])
@pytest.mark.parametrize('size', PUBLISHED)
def test_the_whole_classifier_has_the_published_size(size, delivery):
    option = {'model.backbone.pe_delivery': delivery}
    cfg = load(f'classification/vit-{size}_{LEAF_OF[delivery]}_{IMAGENET}.py', option)
    assert cfg.model.backbone.get('with_cls_token', False) == (delivery in ('default', 'lape'))
    assert count(build(cfg)) == PUBLISHED[size][delivery]


def test_the_retriever_starts_from_deit():
    cfg = load('retrieval/retriever_vit-t_mpvg-ggem_8xb32-50e_inshop.py')
    start = cfg.model.image_encoder[0].init_cfg
    assert start.type == 'mmpvg.PretrainedViT'
    assert start.checkpoint == 'timm://deit_tiny_patch16_224.fb_in1k'


@pytest.mark.parametrize('size', HEADS)
def test_ggem_adds_an_exponent_a_head(size):
    arch = {'t': 'deit-tiny', 's': 'deit-small', 'b': 'deit-base'}[size]
    options = {
        'model.neck.pooling': 'ggem', 'model.neck.in_channels': arch, 'model.neck.groups': 'heads',
    }  # fmt: skip
    cfg = load(f'classification/vit-{size}_mpvg_{IMAGENET}.py', options)
    if size == 't':
        leaf = load(f'classification/vit-t_mpvg-ggem_{IMAGENET}.py')
        assert cfg.to_dict() == leaf.to_dict()
    model = build(cfg)
    assert count(model) == PUBLISHED[size]['mpvg'] + HEADS[size]


# vit-s and vit-b differ from vit-t in widths alone.
@pytest.mark.parametrize('name', [n for n in LEAVES if '/vit-s' not in n and '/vit-b' not in n])
def test_a_training_step_reaches_every_parameter(name):
    cfg = load(name)
    torch.manual_seed(0)
    model = build(cfg).train()
    side = 32 if 'sample' in name or 'cifar' in name else 224
    from mmpretrain.structures import DataSample

    labels = [DataSample().set_gt_label(label) for label in range(4)]
    images = torch.randint(0, 256, (4, 3, side, side), dtype=torch.uint8)
    batch = model.data_preprocessor(dict(inputs=images, data_samples=labels), training=True)
    sum(model(**batch, mode='loss').values()).backward()
    parts = list(model.modules())
    assert sum(isinstance(part, MPVGViT) for part in parts) == 1
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


@pytest.mark.parametrize('name', [name for name in LEAVES if 'sample' not in name])
def test_leaves_are_short(name):
    assert len((CONFIGS / name).read_text().splitlines()) <= 12


def test_imagenet_recipe():
    cfg = load(f'classification/vit-t_mpvg_{IMAGENET}.py')
    optimizer = cfg.optim_wrapper.optimizer
    batch = cfg.auto_scale_lr.base_batch_size
    assert batch == 1024 == 8 * cfg.train_dataloader.batch_size
    # DeiT's main.py, as LaPE's and CeiT's: args.lr * batch / 512; warmup_lr and min_lr as they are.
    assert (optimizer.type, optimizer.weight_decay) == ('AdamW', 0.05)
    assert optimizer.lr == pytest.approx(5e-4 * batch / 512)
    assert cfg.param_scheduler[0].start_factor * optimizer.lr == pytest.approx(1e-6)
    assert cfg.param_scheduler[1].eta_min == 1e-5
    assert cfg.train_cfg.max_epochs == 300
    warmup, cosine = cfg.param_scheduler
    assert (warmup.end, cosine.begin, cosine.end, cosine.T_max) == (5, 5, 300, 295)
    assert cosine.type == 'CosineAnnealingLR'
    steps = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
    augment = steps['RandAugment']
    assert (augment.magnitude_level, augment.magnitude_std) == (9, 0.5)
    assert augment.policies == 'timm_increasing'
    assert steps['RandomErasing'].erase_prob == 0.25
    assert steps['RandomResizedCrop'].scale == 224
    mixing = {step.type: step.alpha for step in cfg.model.train_cfg.augments}
    assert mixing == {'Mixup': 0.8, 'CutMix': 1.0}
    assert cfg.model.head.loss.label_smooth_val == 0.1
    assert cfg.model.backbone.drop_path_rate == 0.1
    assert cfg.train_dataloader.sampler.type == 'RepeatAugSampler'


@pytest.mark.parametrize('delivery', ['default', 'lape', 'pvg', 'mpvg'])
def test_cifar_recipe(delivery):
    option = {'model.backbone.pe_delivery': delivery}
    cfg = load(f'classification/vit-lite_{LEAF_OF[delivery]}_{CIFAR}.py', option)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.weight_decay) == (6e-4, 0.06)
    assert cfg.auto_scale_lr.base_batch_size == 128 == cfg.train_dataloader.batch_size
    assert cfg.train_cfg.max_epochs == 310
    warmup, cosine = cfg.param_scheduler
    assert (warmup.end, cosine.begin, cosine.end) == (10, 10, 300)
    assert warmup.start_factor * optimizer.lr == pytest.approx(1e-6)
    assert cosine.eta_min == 1e-5
    model = build(cfg)
    assert count(model) == PUBLISHED_VIT_LITE[delivery]
    vit = model.backbone
    assert vit.position_embedding.grid == (8, 8)
    assert {block.attn.drop_rate for block in vit.blocks} == {0.1}
    rates = [block.drop_path.rate for block in vit.blocks]
    assert rates == pytest.approx([0.1 * block / 6 for block in range(7)])
    assert (vit.cls_token is not None) == (delivery in ('default', 'lape'))


def test_cifar_augmentation():
    """That of configs/datasets/cifar100.yml of Compact Transformers, which timm reads."""
    cfg = load(f'classification/vit-lite_mpvg_{CIFAR}.py')
    pixels = cfg.data_preprocessor
    assert np.array(pixels.mean) / 255 == pytest.approx([0.5071, 0.4867, 0.4408])
    assert np.array(pixels.std) / 255 == pytest.approx([0.2675, 0.2565, 0.2761])
    crops, flip, augments, erasing, _ = cfg.train_dataloader.dataset.pipeline
    crops, augments = ([choice[0] for choice in c.transforms] for c in (crops, augments))
    assert [crop.pop('interpolation') for crop in crops] == ['bilinear', 'bicubic']
    assert (
        crops
        == [dict(type='RandomResizedCrop', scale=32, crop_ratio_range=(0.8, 1.0), backend='pillow')]
        * 2
    )
    assert [a.hparams.interpolation for a in augments] == ['bilinear', 'bicubic']
    for augment in augments:
        assert (augment.magnitude_level, augment.magnitude_std) == (9, 0.5)
        assert (augment.policies, augment.num_policies) == ('timm_increasing', 2)
        # As timm, which rounds the mean.
        assert augment.hparams.pad_val == [round(mean) for mean in pixels.mean]
    assert (flip.type, flip.prob) == ('RandomFlip', 0.5)
    # Normal noise pixel by pixel, of the mean and standard deviation of the normalization.
    assert (erasing.erase_prob, erasing.mode) == (0.25, 'rand')
    assert (erasing.fill_color, erasing.fill_std) == (pixels.mean, pixels.std)
    assert [step.type for step in cfg.test_dataloader.dataset.pipeline] == ['PackInputs']
    assert cfg.train_dataloader.sampler == dict(type='DefaultSampler', shuffle=True)
    mixing = {step.type: step.alpha for step in cfg.model.train_cfg.augments}
    assert mixing == {'Mixup': 0.8, 'CutMix': 1.0} and 'probs' not in cfg.model.train_cfg
    assert cfg.model.head.loss.label_smooth_val == 0.1
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'


def test_retrieval_searches_the_gallery(tmp_path):
    """A query's labels are the images of the gallery that show its item."""
    from mmengine.registry import DATASETS

    cfg = load('sample/retriever_vit_mpvg-ggem_sample.py')
    init_default_scope(cfg.default_scope)
    counts = make_digits_dataset(tmp_path / 'digits')
    sets = {}
    for split, dataset in (
        ('train', cfg.train_dataloader.dataset),
        ('query', cfg.val_dataloader.dataset),
        ('gallery', cfg.model.prototype.dataset),
    ):
        assert dataset.split == split
        sets[split] = DATASETS.build({**dataset, 'data_root': str(tmp_path / 'digits')})
    assert len(sets['train']) == counts['train']
    assert len(sets['query']) + len(sets['gallery']) == counts['val']
    paths = [sets['gallery'].get_data_info(i)['img_path'] for i in range(len(sets['gallery']))]
    for index in (0, 57, len(sets['query']) - 1):
        query = sets['query'].get_data_info(index)
        digit = Path(query['img_path']).parent.name
        same = [i for i, path in enumerate(paths) if Path(path).parent.name == digit]
        assert list(query['gt_label']) == same


@pytest.mark.parametrize(
    ('name', 'size'),
    [
        (f'classification/vit-t_mpvg_{IMAGENET}.py', 224),
        (f'classification/vit-lite_mpvg_{CIFAR}.py', 32),
        ('retrieval/retriever_vit-t_mpvg-ggem_8xb32-50e_inshop.py', 224),
    ],
)
@pytest.mark.parametrize('split', ['train', 'val'])
def test_the_pipelines_run(name, size, split, tmp_path):
    """On one image, often enough that every augmentation of RandAugment is drawn."""
    cfg = load(name)
    init_default_scope(cfg.default_scope)
    pipeline = cfg[f'{split}_dataloader'].dataset.pipeline
    picture = np.random.default_rng(0).integers(0, 256, (300, 260, 3), dtype=np.uint8)
    if pipeline[0].type == 'LoadImageFromFile':
        Image.fromarray(picture).save(tmp_path / 'x.png')
        start = dict(img_path=str(tmp_path / 'x.png'), gt_label=1)
    else:  # CIFAR's images are arrays
        start = dict(img=picture[:32, :32], gt_label=1, img_shape=(32, 32), ori_shape=(32, 32))
    steps = Compose(pipeline)
    seeds, varied = (40 if split == 'train' else 1), 0
    for seed in range(seeds):
        np.random.seed(seed)
        packed = steps(copy.deepcopy(start))
        assert packed['inputs'].shape == (3, size, size)
        varied += packed['inputs'].float().std() > 1
        assert packed['data_samples'].gt_label.item() == 1
    # A posterized picture may have a single color left.
    assert varied >= 0.8 * seeds
