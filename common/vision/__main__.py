"""Download the weights of torchvision's backbones: python -m common.vision squeezenet1_1 [...]; without a name, all."""

import sys

from common.vision.weights import FILES, fetch


def main(names: list[str]) -> None:
    for name in names or FILES:
        try:
            print(fetch(name))
        except (OSError, ValueError, RuntimeError) as error:
            raise SystemExit(f"{name}: {error}") from error


if __name__ == "__main__":
    main(sys.argv[1:])
