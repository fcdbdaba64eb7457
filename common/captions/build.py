"""Photographs and captions of one's own, written in the layout of CS231n's `coco_captioning`.

Features are computed in parts, each a file of its own that appears whole or not at all. After an interruption the
parts that are there are kept, so the result is the same as without the interruption.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.captions.vocabulary import build_vocabulary, encode, tokenize
from common.data import caption_features, store
from common.data.pocket.captions import write_captions
from common.progress import progress
from common.storage import atomic_write
from common.validate import checked_count, stream

Captioned = dict[str, list[str]]  # file -> captions
PARTS, ABOUT, PART_SIZE = ".parts", "about.json", 64


@dataclass(frozen=True)
class Built:
    """What was written: pictures and captions of both splits, the number of words, and the pictures left out."""

    train_images: int
    val_images: int
    train_captions: int
    val_captions: int
    words: int
    left_out: tuple[str, ...]


def build(
    images: str | Path,
    captions: str | Path,
    out: str | Path,
    threshold: int = 5,
    val_share: float = 0.1,
    seed: int = 0,
    backbone: str = "efficientnet_lite0",
    skip_bad: bool = False,
    max_words: int = 15,
    title: str = "",
    *,
    extract: Callable[[list[Image.Image]], np.ndarray] | None = None,
) -> Built:
    """Write captions, vocabulary, urls and features of captioned photographs.

    Args:
        images: the folder with the photographs, of any sizes.
        captions: COCO's json (images, annotations), or a json {"file.jpg": ["a caption", ...]}.
        out: the folder to write into; a build that was interrupted there goes on.
        threshold: words that occur less often in the training captions become <UNK>.
        val_share: the share of the photographs, drawn at random, that form the val split.
        seed: of that draw.
        backbone: name for `load_backbone`.
        skip_bad: leave unreadable photographs out; otherwise the first one is an error.
        max_words: longer captions are cut.
        title: of the photographs, for the line in which a notebook names its data; the folder's name without one.
        extract: what computes the features of a list of RGB pictures, instead of the backbone; `backbone` is then
            only its name, by which an interrupted build is recognised.
    Returns:
        How much was written.
    Raises:
        FileNotFoundError: the folder, the json or a photograph is missing.
        ValueError: a json of another form, an unreadable photograph, too few photographs, or a bad number.
    """
    threshold, max_words = checked_count("threshold", threshold), checked_count("max_words", max_words)
    if not 0 < val_share < 1:
        raise ValueError(f"val_share must be between 0 and 1, got {val_share}")
    images, out = Path(images), Path(out)
    told = _present(images, read_captions(captions))
    out.mkdir(parents=True, exist_ok=True)
    features, readable = _features(images, list(told), out, backbone, skip_bad, extract)
    kept = [file for file, good in zip(told, readable, strict=True) if good]
    split = split_files(len(kept), val_share, seed)
    words = {file: [tokenize(sentence) for sentence in told[file]] for file in kept}
    vocabulary = build_vocabulary((w for i in split["train"] for w in words[kept[i]]), threshold)
    arrays = {name: _rows([words[kept[i]] for i in rows], vocabulary, max_words) for name, rows in split.items()}
    write_captions(out, vocabulary, arrays)
    _write_urls(images, out, {name: [kept[i] for i in rows] for name, rows in split.items()})
    _write_features(out, {name: features[rows] for name, rows in split.items()})
    with atomic_write(out / store.NOTE, "w", encoding="utf-8", newline="\n") as note:
        note.write(f"{title or images.name}, {len(split['train']):,} + {len(split['val']):,} photographs\n")
    shutil.rmtree(out / PARTS)
    left_out = tuple(file for file, good in zip(told, readable, strict=True) if not good)
    sizes = [len(split["train"]), len(split["val"]), len(arrays["train"][0]), len(arrays["val"][0])]
    return Built(*sizes, len(vocabulary), left_out)


# The captions ---------------------------------------------------------------------------------------------------


def read_captions(path: str | Path) -> Captioned:
    """The captions of each file, in the order of the json; pictures without captions are left out.

    Args:
        path: COCO's json, {"images": [{"id", "file_name"}, ...], "annotations": [{"image_id", "caption"}, ...]}, or a
            json {"file.jpg": ["a caption", ...]}.
    Returns:
        {file: [caption, ...]}, at least one caption each.
    Raises:
        FileNotFoundError: no such file.
        ValueError: not json, or of neither form; the message says where.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a json file: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected COCO's form or {{file: [caption, ...]}}, found a {type(content).__name__}")
    told = _of_coco(path, content) if {"images", "annotations"} <= content.keys() else content
    for file, sentences in told.items():
        if not isinstance(sentences, list) or not all(isinstance(sentence, str) for sentence in sentences):
            raise ValueError(f"{path}: the captions of {file!r} must be a list of strings, got {str(sentences)[:60]}")
    spoken = {file: [s for s in sentences if tokenize(s)] for file, sentences in told.items()}
    return {file: sentences for file, sentences in spoken.items() if sentences}


def _of_coco(path: Path, content: dict[str, Any]) -> Captioned:
    try:
        files = {image["id"]: image["file_name"] for image in content["images"]}
        told: Captioned = {file: [] for file in files.values()}
        for annotation in content["annotations"]:
            told[files[annotation["image_id"]]].append(annotation["caption"])
    except (KeyError, TypeError) as error:
        form = '"images" with "id" and "file_name", "annotations" with "image_id" of one of them and "caption"'
        raise ValueError(f"{path}: expected {form}; {type(error).__name__}: {error}") from error
    return told


def _present(images: Path, told: Captioned) -> Captioned:
    """The captions, if every photograph is there and there are enough for two splits."""
    if not images.is_dir():
        raise FileNotFoundError(f"there is no folder {images}")
    missing = [file for file in told if not (images / file).is_file()]
    if missing:
        raise FileNotFoundError(f"{images / missing[0]} is missing, and {len(missing) - 1} more files with captions")
    if len(told) < 2:
        raise ValueError(f"at least two photographs with captions are needed, got {len(told)}")
    return told


def split_files(count: int, val_share: float, seed: int) -> dict[str, np.ndarray]:
    """Rows of the val split, drawn at random, and of the train split, each in rising order and with at least one.

    Raises:
        ValueError: fewer than two photographs.
    """
    if count < 2:
        raise ValueError(f"at least two readable photographs are needed, got {count}")
    few = min(max(1, round(val_share * count)), count - 1)
    order = stream(seed).permutation(count)
    return {"train": np.sort(order[few:]), "val": np.sort(order[:few])}


def _rows(told: list[list[list[str]]], vocabulary: list[str], max_words: int) -> tuple[np.ndarray, np.ndarray]:
    """Captions int32 (M, max_words + 2) and the picture of each, int32 (M,)."""
    number = {word: i for i, word in enumerate(vocabulary)}
    rows = [encode(words, number, max_words) for sentences in told for words in sentences]
    return np.stack(rows), np.repeat(np.arange(len(told)), [len(s) for s in told]).astype(np.int32)


def _write_urls(images: Path, out: Path, files: dict[str, list[str]]) -> None:
    """Each photograph as a path from the output folder, where that is possible, so that both can move together."""
    for name, chosen in files.items():
        try:
            folder = Path(os.path.relpath(images.resolve(), out.resolve()))
        except ValueError:  # on another drive of Windows
            folder = images.resolve()
        with atomic_write(out / f"{name}2014_urls.txt", "w", encoding="utf-8", newline="\n") as target:
            target.writelines(f"{(folder / file).as_posix()}\n" for file in chosen)


# The features ---------------------------------------------------------------------------------------------------


def _features(
    images: Path, files: list[str], out: Path, backbone: str, skip_bad: bool, extract: Callable | None
) -> tuple[np.ndarray, np.ndarray]:
    """Features float32 (N, F) of all photographs, and which of them could be read, bool (N,)."""
    parts = _parts_folder(out, images, files, backbone)
    ranges = [range(start, min(start + PART_SIZE, len(files))) for start in range(0, len(files), PART_SIZE)]
    with progress(total=len(files), desc="features", unit="picture") as bar:
        for number, rows in enumerate(ranges):
            path = parts / f"{number:06d}.npz"
            if not path.is_file():
                extract = extract or _load_extract(backbone)
                _write_part(path, [images / files[i] for i in rows], extract, skip_bad)
            bar.update(len(rows))
    loaded = [np.load(parts / f"{number:06d}.npz") for number in range(len(ranges))]
    readable = np.concatenate([part["readable"] for part in loaded])
    if not readable.any():
        raise ValueError(f"none of the {len(files)} photographs in {images} can be read")
    width = max(part["features"].shape[1] for part in loaded)  # a part without a readable picture has none
    return np.concatenate([part["features"] for part in loaded if part["features"].shape[1] == width]), readable


def _parts_folder(out: Path, images: Path, files: list[str], backbone: str) -> Path:
    """The folder of the finished parts; emptied if they are of other photographs or of another backbone."""
    known = [(file, (images / file).stat().st_size) for file in files]
    digest = hashlib.sha256(repr((known, PART_SIZE)).encode()).hexdigest()
    about = json.dumps({"backbone": backbone, "photographs": digest})
    parts = out / PARTS
    if not (parts / ABOUT).is_file() or (parts / ABOUT).read_text() != about:
        shutil.rmtree(parts, ignore_errors=True)
        with atomic_write(parts / ABOUT, "w") as target:
            target.write(about)
    return parts


def _load_extract(backbone: str) -> Callable:
    from common.vision.backbone import load_backbone

    return load_backbone(backbone).extract


def _write_part(path: Path, files: list[Path], extract: Callable, skip_bad: bool) -> None:
    """The features of a few photographs, and which of them could be read."""
    pictures = [_read_picture(file, skip_bad) for file in files]
    good = [picture for picture in pictures if picture is not None]
    features = extract(good) if good else np.zeros((0, 0), dtype=np.float32)
    if len(features) != len(good) or features.ndim != 2:
        raise ValueError(f"extract returned an array of shape {features.shape} for {len(good)} pictures")
    with atomic_write(path) as target:
        np.savez(target, features=features, readable=np.array([picture is not None for picture in pictures]))


def _read_picture(file: Path, skip_bad: bool) -> Image.Image | None:
    """A photograph in RGB; None for an unreadable one with skip_bad."""
    try:
        with Image.open(file) as img:
            return img.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # what Pillow's readers raise
        if skip_bad:
            return None
        raise ValueError(f"{file} cannot be read as a picture ({error}); --skip-bad leaves such files out") from error


def _write_features(out: Path, features: dict[str, np.ndarray]) -> None:
    project = caption_features.fit_pca(features["train"])
    for name, rows in features.items():
        caption_features.save(out / caption_features.file_name(name, pca=False), rows)
        caption_features.save(out / caption_features.file_name(name), project(rows))
