"""Predict on your own images: an image, a folder, or a video (docs/prediction.md).

    python tools/predict.py IMAGE|FOLDER|VIDEO CONFIG CHECKPOINT --out DIR

A detector writes COCO results (DIR/predictions.json, DIR/images.json), a segmenter label maps
(DIR/masks/); DIR/pictures/ shows them, and DIR/report.json names what failed, and why. The exit
status is 1 if nothing could be predicted, and 130 after Ctrl-C or SIGTERM.
"""

import argparse
import signal
import sys
from pathlib import Path

from mmengine.config import DictAction

from mmpvg.apis.inference import predict_to_folder
from mmpvg.engine.config.config_model import read_config
from mmpvg.utils.command_line import positive, user_errors


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', help='an image, a folder (with all folders in it), or a video')
    parser.add_argument('config', help='config file of a detector or a segmenter')
    parser.add_argument('checkpoint', help="checkpoint file or URL; 'none' for the untrained model")
    parser.add_argument('--out', type=Path, required=True, help='folder to write to')
    parser.add_argument(
        '--batch-size', type=positive, default=1, help='images of one size at a time'
    )
    parser.add_argument('--device', help='such as cuda:1 or cpu; the accelerator if not given')
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='least score of a detection that is drawn'
    )
    parser.add_argument(
        '--json-score-thr',
        type=float,
        default=0.0,
        help='least score of a detection that is written to predictions.json',
    )
    parser.add_argument(
        '--ann-file',
        help='COCO annotations whose ids predictions.json gets, to evaluate it',
    )
    parser.add_argument('--no-pictures', action='store_true', help='draw nothing')
    parser.add_argument(
        '--every', type=positive, default=1, help='step between the video frames that are taken'
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='KEY=VALUE')
    args = parser.parse_args()

    # What a scheduler sends first is taken as Ctrl-C, so that what there is gets written.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with user_errors(parser):
            cfg = read_config(args.config)
            cfg.merge_from_dict(args.cfg_options or {})
            report = predict_to_folder(
                args.source,
                cfg,
                None if args.checkpoint == 'none' else args.checkpoint,
                args.out,
                batch_size=args.batch_size,
                device=args.device,
                score_thr=args.score_thr,
                json_score_thr=args.json_score_thr,
                ann_file=args.ann_file,
                pictures=not args.no_pictures,
                every=args.every,
            )
    finally:
        signal.signal(signal.SIGTERM, before)
    print(report.summary())
    print('wrote', args.out)
    sys.exit(130 if report.interrupted else int(report.predicted == 0))


if __name__ == '__main__':
    main()
