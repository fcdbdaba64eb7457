"""`python -m common.captions build`: captioned photographs of one's own, in the layout that `load_coco_data` reads."""

from __future__ import annotations

import argparse
import sys
import time

from common.captions.build import build


def main(arguments: list[str] | None = None) -> int:
    """Build a folder from photographs and captions.

    Args:
        arguments: of the command line; None = sys.argv.
    Returns:
        The exit status: 0, 1 if something is wrong with the files or the options, 130 if stopped.
    """
    options = vars(_parser().parse_args(arguments))
    begun = time.perf_counter()
    try:
        built = build(**{name: value for name, value in options.items() if name != "command"})
    except (OSError, ValueError, ImportError) as error:
        print(f"FAILED  {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    for file in built.left_out:
        print(f"left out, unreadable: {file}")
    print(
        f"ok  {options['out']}: {built.train_images} + {built.val_images} photographs, {built.train_captions} + "
        f"{built.val_captions} captions, {built.words} words, in {time.perf_counter() - begun:.0f} s\n"
        f"    load_coco_data({str(options['out'])!r}) reads it"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m common.captions", description=__doc__)
    command = parser.add_subparsers(dest="command", required=True).add_parser(
        "build",
        help="write captions, vocabulary and features of captioned photographs",
        description="Write captions, vocabulary and features of captioned photographs. Interrupted, it goes on.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    option = command.add_argument
    option("--images", required=True, metavar="DIR", help="folder with the photographs")
    option("--captions", required=True, metavar="FILE", help='COCO\'s json, or {"file.jpg": ["a caption", ...]}')
    option("--out", required=True, metavar="DIR", help="folder to write")
    option("--threshold", type=int, default=5, metavar="N", help="words that occur less often become <UNK>")
    option("--val-share", type=float, default=0.1, metavar="P", help="share of the photographs kept for validation")
    option("--seed", type=int, default=0, metavar="N", help="of the draw of the validation photographs")
    option("--max-words", type=int, default=15, metavar="N", help="longer captions are cut")
    option("--title", default="", help="of the photographs; the folder's name without one")
    option("--backbone", default="efficientnet_lite0", metavar="NAME", help="network that computes the features")
    option("--skip-bad", action="store_true", help="leave unreadable photographs out, and name them")
    return parser


if __name__ == "__main__":
    sys.exit(main())
