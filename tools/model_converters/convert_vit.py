"""Turn any plain ViT into a checkpoint of MPVGViT, and print the backbone that it fits.

    python tools/model_converters/convert_vit.py timm://deit_small_patch16_224.fb_in1k deit_s.pth

Training does not need it: PretrainedViT reads the same sources. It is for keeping one file at hand
where there is no network, and for looking at what a file holds (leave OUT away).
"""

import argparse
from pathlib import Path

import torch

from mmpvg.checkpoints import backbone_arguments, fit, read_weights, recognise
from mmpvg.models import MPVGViT
from mmpvg.utils.command_line import user_errors


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'source', help='timm://NAME, a URL, a .pth, .safetensors or .npz file, or a folder of one'
    )
    parser.add_argument('out', nargs='?', type=Path, help='.pth or .safetensors file to write')
    parser.add_argument('--prefix', help="prefix of the ViT's names in the file")
    parser.add_argument('--key', help='entry of the file that holds the weights')
    parser.add_argument('--grid', nargs=2, type=int, metavar=('H', 'W'), help='patches of the PE')
    parser.add_argument(
        '--num-heads', type=int,
        help='attention heads, if the source does not say: by default those of the named arch '
        "of its size, else one for every 64 channels (MoCo v3's ViT-S has 12, DeiT's 6)",
    )  # fmt: skip
    args = parser.parse_args()
    if args.out is not None and args.out.suffix not in ('.pth', '.safetensors'):
        parser.error(f'OUT must end with .pth or .safetensors, got {args.out}')
    grid = None if args.grid is None else tuple(args.grid)

    with user_errors(parser):
        source = recognise(read_weights(args.source, args.key), args.source, args.prefix)
        assumed = source.num_heads is None and args.num_heads is None
        arguments = backbone_arguments(source, grid, args.num_heads)
        if source.num_heads is None:
            source.num_heads = args.num_heads
        state, report = fit(source, MPVGViT(**arguments), grid)
    print(report)
    if assumed:
        print('the number of heads is assumed: pass --num-heads if the source has others')
    listed = ', '.join(f'{name}={value!r}' for name, value in arguments.items())
    print(f"backbone = dict(type='mmpvg.MPVGViT', {listed})")
    if args.out is None:
        return
    if args.out.suffix == '.safetensors':
        from safetensors.torch import save_file

        save_file({name: tensor.contiguous() for name, tensor in state.items()}, args.out)
    else:
        torch.save(dict(state_dict=state, meta=dict(source=args.source)), args.out)
    print('wrote', args.out)


if __name__ == '__main__':
    main()
