"""The pocket edition of the ImageNet samples: labelled photographs that lie in installed packages.

Twenty come with foolbox (Rauber et al., 2020), their ImageNet labels in their file names; two come with
scikit-image. They are written as `imagenet_val_25.npz`, with the fields of the file that CS231n published.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 224
FILE = "imagenet_val_25.npz"
# The label is ours: a cat with a tabby coat, and an espresso in its cup. The other photographs of scikit-image show
# nothing that is certainly one of the 1,000 classes (its rocket, for one, is neither a missile nor a space shuttle).
SKIMAGE = {"chelsea.png": 281, "coffee.png": 967}


def write(folder: Path) -> None:
    """Write `imagenet_val_25.npz`: X uint8 (22, 224, 224, 3), y int64 (22,), label_map {int: str} of 1,000 classes.

    Args:
        folder: where; made if missing.
    Raises:
        ImportError: a package with the photographs or the names of the classes is not installed.
        FileNotFoundError: it is installed, but the files are not where they were.
        OSError: as the file system reports it.
    """
    files = photographs()
    X = np.stack([square(file) for file, _ in files])
    y = np.array([label for _, label in files], dtype=np.int64)
    Path(folder).mkdir(parents=True, exist_ok=True)
    np.savez(Path(folder) / FILE, X=X, y=y, label_map=np.array(class_names(), dtype=object))


def photographs() -> list[tuple[Path, int]]:
    """The files and their labels, those of foolbox first."""
    found = sorted((package_folder("foolbox") / "data").glob("imagenet_*_*.jpg"))
    if len(found) != 20:
        raise FileNotFoundError(f"expected 20 files imagenet_*.jpg in {package_folder('foolbox')}, found {len(found)}")
    named = [(file, int(file.stem.rpartition("_")[2])) for file in found]
    return named + [(package_folder("skimage") / "data" / name, label) for name, label in SKIMAGE.items()]


def class_names() -> dict[int, str]:
    """The names of the 1,000 classes, from the word lists (WordNet, Miller, 1995) in the package timm."""
    lists = package_folder("timm") / "data" / "_info"
    lemmas = (lists / "imagenet_synset_to_lemma.txt").read_text(encoding="utf-8").splitlines()
    names = dict(line.split("\t", 1) for line in lemmas)
    return {i: names[synset] for i, synset in enumerate((lists / "imagenet_synsets.txt").read_text().split())}


def package_folder(name: str) -> Path:
    """Where an installed package lies; it is found, not imported.

    Raises:
        ImportError: it is not installed.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"the package {name} is not installed; the pocket ImageNet samples are copied from it")
    return Path(spec.submodule_search_locations[0])


def square(file: Path) -> np.ndarray:
    """A photograph with its shorter side at 224 pixels (bicubic), cut to the middle 224 x 224, uint8."""
    with Image.open(file) as img:
        img = img.convert("RGB")
    scale = SIZE / min(img.size)
    img = img.resize([max(SIZE, round(side * scale)) for side in img.size], Image.Resampling.BICUBIC)
    left, top = ((side - SIZE) // 2 for side in img.size)
    return np.asarray(img.crop((left, top, left + SIZE, top + SIZE)))
