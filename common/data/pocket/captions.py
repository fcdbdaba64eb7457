"""The pocket edition of the COCO captions: drawn scenes and their sentences, in the layout that CS231n published.

`coco2014_captions.h5` (train_captions, train_image_idxs, val_captions, val_image_idxs), `coco2014_vocab.json`,
`{train,val}2014_urls.txt` with the files of the pictures, and `scenes.json`, which only drawings can have: what each
picture shows, and where. The features are not made here; `common.data.captions` adds them.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from common.data.pocket import grammar, layout, picture
from common.data.pocket.canvas import Dice

COUNTS = {"train": 2500, "val": 500}
NEW_PAIRS = 100  # the last so many val pictures each show a pair of `layout.HELD_OUT`
SPECIAL = ("<NULL>", "<START>", "<END>", "<UNK>")
LENGTH = grammar.LONGEST + 2  # a row of captions: <START>, the words, <END>, then <NULL>


def draw(seed: int, split: str, index: int, new_pair: bool = False) -> tuple[np.ndarray, dict, list[str]]:
    """Draw and describe one picture, from its own random stream, so the order of drawing does not matter.

    Args:
        seed: the edition's seed, 0..2**32-1.
        split: "train" or "val".
        index: the picture's place in its split.
        new_pair: show a colour on a class that training never shows together, or never do so.
    Returns:
        The picture, uint8 (224, 224, 3); what it shows, as in `scenes.json`; its five captions.
    """
    rng = np.random.RandomState([seed, sorted(COUNTS).index(split), index])
    boxes = []
    while not boxes:  # again if a thing hides more than half of another
        scene = layout.compose(Dice(rng))
        if layout.held_out(scene) == new_pair:
            pixels, boxes = picture.draw(scene, rng)
    return pixels, _record(scene, boxes, new_pair), grammar.captions(scene, Dice(rng))


def _record(scene: layout.Scene, boxes: list[tuple[int, int, int, int]], new_pair: bool) -> dict:
    """A scene as `scenes.json` tells it."""
    things = [
        {"class": thing.kind, "colour": thing.colour, "doing": thing.pose.verb, "box": list(box)}
        for thing, box in zip(scene.things, boxes, strict=True)
    ]
    return {
        "place": scene.place, "sky": scene.sky, "position": scene.position, "objects": things,
        "relations": [list(relation) for relation in scene.relations], "new_pair": new_pair,
    }  # fmt: skip


def write(folder: Path, seed: int = 2014, counts: dict[str, int] | None = None, new_pairs: int = NEW_PAIRS) -> None:
    """Draw all pictures and write everything but the features.

    Pixels, captions and scenes are the same on every machine; how a PNG or HDF5 file packs them is its library's.

    Args:
        folder: where; made if missing.
        seed: another seed draws other pictures; 0..2**32-1.
        counts: pictures a split; None = `COUNTS`.
        new_pairs: how many val pictures, the last ones, show pairs that training never shows.
    Raises:
        ValueError: if seed is out of range.
        OSError: as the file system reports it; files written so far stay.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be in 0..2**32-1, got {seed}")
    folder, counts = Path(folder), counts or COUNTS
    (folder / "images").mkdir(parents=True, exist_ok=True)
    scenes, sentences = {}, {}
    for split, count in counts.items():
        scenes[split], sentences[split] = _write_split(folder, seed, split, count, new_pairs)
    vocabulary = words_by_frequency(sentence for split in counts for told in sentences[split] for sentence in told)
    write_captions(folder, vocabulary, {split: rows(told, vocabulary) for split, told in sentences.items()})
    (folder / "scenes.json").write_text(json.dumps(scenes), encoding="utf-8")


def _write_split(folder: Path, seed: int, split: str, count: int, new_pairs: int) -> tuple[list[dict], list[list[str]]]:
    """Draw the pictures of a split; returns their scenes and captions."""
    scenes, sentences, files = [], [], []
    for i in range(count):
        pixels, scene, told = draw(seed, split, i, split == "val" and i >= count - new_pairs)
        files.append(f"images/{split}_{i:06d}.png")
        Image.fromarray(pixels).save(folder / files[-1], compress_level=6)
        scenes.append(scene)
        sentences.append(told)
    (folder / f"{split}2014_urls.txt").write_text("".join(f"{file}\n" for file in files), encoding="utf-8")
    return scenes, sentences


def words_by_frequency(sentences) -> list[str]:
    """The four special words, then the words of the sentences, the frequent first, equals in the alphabet's order."""
    counts = Counter(word for sentence in sentences for word in sentence.split())
    return [*SPECIAL, *sorted(counts, key=lambda word: (-counts[word], word))]


def rows(sentences: list[list[str]], vocabulary: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Captions as numbers.

    Args:
        sentences: the captions of each picture.
        vocabulary: all words, by number.
    Returns:
        captions int32 (M, 17): <START>, the words, <END>, <NULL> ...; and image_idxs int32 (M,), each one's picture.
    """
    number = {word: i for i, word in enumerate(vocabulary)}
    captions, pictures = [], []
    for image, told in enumerate(sentences):
        for sentence in told:
            ids = [number[word] for word in ("<START>", *sentence.split(), "<END>")]
            captions.append(ids + [number["<NULL>"]] * (LENGTH - len(ids)))
            pictures.append(image)
    return np.array(captions, dtype=np.int32), np.array(pictures, dtype=np.int32)


def write_captions(folder: Path, vocabulary: list[str], captions: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Write `coco2014_vocab.json` and `coco2014_captions.h5`.

    Args:
        folder: an existing folder.
        vocabulary: all words, by number.
        captions: for each split, captions (M, T) and image_idxs (M,).
    """
    words = {"idx_to_word": vocabulary, "word_to_idx": {word: i for i, word in enumerate(vocabulary)}}
    (folder / "coco2014_vocab.json").write_text(json.dumps(words), encoding="utf-8")
    with h5py.File(folder / "coco2014_captions.h5", "w") as file:
        for split, (ids, pictures) in captions.items():
            file[f"{split}_captions"], file[f"{split}_image_idxs"] = ids, pictures
