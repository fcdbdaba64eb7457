"""Pictures with captions, as CS231n published COCO (Lin et al., 2014): numbers for words, one feature row a picture.

A caption is a row of word numbers: <START>, its words, <END>, then <NULL> up to the common length. A picture is a
row of features that a pretrained network computed once. The layout is that of the course's `coco_captioning` folder,
so the published files, the drawn pocket edition and what `python -m common.captions build` writes are read alike.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.data import caption_features, store
from common.validate import Stream, checked_count, stream

SPLITS = ("train", "val")
CAPTIONS, VOCABULARY, SCENES = "coco2014_captions.h5", "coco2014_vocab.json", "scenes.json"
SPECIAL = ("<NULL>", "<START>", "<END>", "<UNK>")
Extract = Callable[[np.ndarray], np.ndarray]


def load_coco_data(
    base_dir: str | Path | None = None,
    max_train: int | None = None,
    pca_features: bool = True,
    *,
    extract: Extract | None = None,
    kind: str = caption_features.PUBLISHED,
    seed: Stream = None,
) -> dict[str, Any]:
    """Captions, features and vocabulary.

    Args:
        base_dir: a folder in the layout of `coco_captioning`; None = the edition in use.
        max_train: keep so many training captions, drawn with replacement; None = all.
        pca_features: features reduced to 512 numbers by PCA; False = as the network gave them.
        extract: pictures uint8 (N, H, W, 3), or a list of them -> features float32 (N, F), for example
            `load_backbone().extract`. Called once for pictures whose features are not on the disk yet, or are those of
            another network: for drawn ones, and with a `kind` of your own for all that are files on this machine.
        kind: a name for other features than those that came with the captions, for example "grid4", read from
            `{split}2014_grid4.h5`: unreduced, so pca_features must be False, and kept in half precision.
        seed: of the draw for max_train: a RandomState, a seed, or None for NumPy's global stream.
    Returns:
        A dict. For split = train, val: `split_captions` int32 (M, T), `split_image_idxs` (M,), the row of each
        caption's picture in `split_features` float32 (N, D) and `split_urls` (N,), where the picture is. Then
        `idx_to_word`, a list, and `word_to_idx`, a dict. Drawn pictures also have `split_scenes`, N dicts that say
        what each of them shows.
    Raises:
        FileNotFoundError: a file is missing; the message names it and says how it comes.
        ValueError: a file is damaged or does not fit the others; the message names the file and the key. Or `kind` is
            no such name, or another kind than the published one is to be reduced.
        TypeError: max_train is not an integer, extract cannot be called, or gives something else than features.
    """
    caption_features.checked_kind(kind, pca_features)
    base = store.dataset_dir("coco_captions") if base_dir is None else Path(base_dir)
    data: dict[str, Any] = _read_vocabulary(base / VOCABULARY)
    data |= _read_captions(base / CAPTIONS, len(data["idx_to_word"]))
    for split in SPLITS:
        data[f"{split}_urls"] = _read_urls(base / f"{split}2014_urls.txt", base)
    drawn = (base / SCENES).is_file()
    if drawn:
        data |= _read_scenes(base / SCENES, data)
    if drawn or kind != caption_features.PUBLISHED:
        files = {split: data[f"{split}_urls"] for split in SPLITS}
        caption_features.ensure(base, files, extract, load_images if drawn else load_pictures, kind)
    for split in SPLITS:
        path = base / caption_features.file_name(split, pca_features, kind)
        data[f"{split}_features"] = caption_features.read(path)
        _check_pictures(data, split, path, base)
    return data if max_train is None else _keep(data, checked_count("max_train", max_train), stream(seed))


def sample_coco_minibatch(
    data: dict[str, Any], batch_size: int = 100, split: str = "train", rng: Stream = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Captions drawn with replacement, each with the features and the address of its picture.

    Args:
        data: of `load_coco_data`.
        batch_size: how many.
        split: "train" or "val".
        rng: a RandomState, a seed, or None for NumPy's global stream.
    Returns:
        captions int32 (batch_size, T), features float32 (batch_size, D), urls (batch_size,).
    Raises:
        ValueError: batch_size below 1, or another split.
        TypeError: batch_size is not an integer.
    """
    _checked_split(split)
    batch_size = checked_count("batch_size", batch_size)
    chosen = stream(rng).randint(0, len(data[f"{split}_captions"]), size=batch_size)
    pictures = data[f"{split}_image_idxs"][chosen]
    return data[f"{split}_captions"][chosen], data[f"{split}_features"][pictures], data[f"{split}_urls"][pictures]


def decode_captions(captions: np.ndarray, idx_to_word: list[str]) -> str | list[str]:
    """Captions in words: <NULL> is left out, nothing follows <END>, and <START> and <END> are kept.

    Args:
        captions: integers (T,) or (N, T).
        idx_to_word: the word of each number.
    Returns:
        A string for (T,), a list of N strings for (N, T).
    Raises:
        ValueError: another number of axes, or numbers outside the vocabulary.
        TypeError: not integers.
    """
    captions = np.asarray(captions)
    if captions.ndim not in (1, 2):
        raise ValueError(f"captions must have shape (T,) or (N, T), got {captions.shape}")
    if captions.dtype.kind not in "iu":
        raise TypeError(f"captions must hold integers, got {captions.dtype}")
    if captions.size and not 0 <= captions.min() <= captions.max() < len(idx_to_word):
        found = f"{captions.min()} to {captions.max()}"
        raise ValueError(f"captions hold the numbers {found}; the vocabulary allows 0 to {len(idx_to_word) - 1}")
    told = [_sentence([idx_to_word[i] for i in row]) for row in np.atleast_2d(captions)]
    return told[0] if captions.ndim == 1 else told


def load_scene_images(data: dict[str, Any], split: str, image_idxs: Iterable[int]) -> np.ndarray:
    """The pictures themselves, where they are files on this machine: the pocket edition, or photographs of your own.

    Args:
        data: of `load_coco_data`.
        split: "train" or "val".
        image_idxs: rows of `split_features`, for example some of `split_image_idxs`.
    Returns:
        uint8 (N, H, W, 3).
    Raises:
        ValueError: another split, a row that is not there, no rows, or pictures of different sizes.
        FileNotFoundError: a picture is not a file on this machine (the published urls are web addresses).
    """
    urls, rows = data[f"{_checked_split(split)}_urls"], np.asarray(image_idxs, dtype=np.int64).reshape(-1)
    if not len(rows) or not 0 <= rows.min() <= rows.max() < len(urls):
        raise ValueError(f"image_idxs must be at least one number from 0 to {len(urls) - 1}, got {rows.tolist()[:10]}")
    return load_images(urls[rows])


def load_images(files: Iterable[str]) -> np.ndarray:
    """Picture files of one size as uint8 (N, H, W, 3).

    Raises:
        FileNotFoundError: one is not there.
        ValueError: one is not a picture, or they differ in size.
    """
    pictures = load_pictures(files)
    sizes = {picture.shape for picture in pictures}
    if len(sizes) > 1:
        raise ValueError(f"the pictures differ in size: {', '.join(map(str, sorted(sizes)))}")
    return np.stack(pictures)


def load_pictures(files: Iterable[str]) -> list[np.ndarray]:
    """Picture files as uint8 (H, W, 3) each, of any sizes.

    Raises:
        FileNotFoundError: one is not there; the published urls are web addresses.
        ValueError: one is not a picture.
    """
    pictures = []
    for file in map(str, files):
        if not Path(file).is_file():
            raise FileNotFoundError(f"{file} is not a picture on this machine")
        try:
            with Image.open(file) as img:
                pictures.append(np.asarray(img.convert("RGB")))
        except OSError as error:
            raise ValueError(f"{file} cannot be read as a picture: {error}") from error
    return pictures


# Reading and checking the files ---------------------------------------------------------------------------------


def _checked_split(split: str) -> str:
    if split not in SPLITS:
        raise ValueError(f"split must be 'train' or 'val', got {split!r}")
    return split


def _sentence(words: list[str]) -> str:
    end = words.index("<END>") + 1 if "<END>" in words else len(words)
    return " ".join(word for word in words[:end] if word != "<NULL>")


def _there(path: Path) -> Path:
    """The path, verified where a checksum is known."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; the folder should have the layout of CS231n's coco_captioning")
    store.verify(path)
    return path


def _read_json(path: Path) -> Any:
    try:
        return json.loads(_there(path).read_text(encoding="utf-8"))
    except ValueError as error:  # not JSON, or not text at all
        raise ValueError(f"{path} is not readable: {error}") from error


def _read_vocabulary(path: Path) -> dict[str, Any]:
    """idx_to_word and word_to_idx, each the other's inverse."""
    content = _read_json(path)
    if not isinstance(content, dict) or not {"idx_to_word", "word_to_idx"} <= content.keys():
        raise ValueError(f"{path}: the keys 'idx_to_word' and 'word_to_idx' are needed")
    words, numbers = content["idx_to_word"], content["word_to_idx"]
    if not isinstance(words, list) or numbers != {word: i for i, word in enumerate(words)}:
        raise ValueError(f"{path}: 'word_to_idx' is not the inverse of 'idx_to_word'")
    missing = [word for word in SPECIAL if word not in numbers]
    if missing:
        raise ValueError(f"{path}: 'idx_to_word' lacks {', '.join(missing)}")
    return {"idx_to_word": words, "word_to_idx": numbers}


def _read_captions(path: Path, num_words: int) -> dict[str, np.ndarray]:
    """Captions and picture numbers of both splits, of the right shapes and within their ranges."""
    names = [f"{split}_{kind}" for split in SPLITS for kind in ("captions", "image_idxs")]
    arrays = caption_features.read_h5(_there(path), names)
    for split in SPLITS:
        captions, pictures = arrays[f"{split}_captions"], arrays[f"{split}_image_idxs"]
        if captions.ndim != 2 or captions.dtype.kind not in "iu" or not captions.size:
            raise ValueError(f"{path}: '{split}_captions' must hold integers (M, T), {_found(captions)}")
        if pictures.shape != captions.shape[:1] or pictures.dtype.kind not in "iu":
            needed = f"integers of shape {captions.shape[:1]}, one for each row of '{split}_captions'"
            raise ValueError(f"{path}: '{split}_image_idxs' must hold {needed}, {_found(pictures)}")
        if not 0 <= captions.min() <= captions.max() < num_words:
            found = f"the numbers {captions.min()} to {captions.max()}; {VOCABULARY} has 0 to {num_words - 1}"
            raise ValueError(f"{path}: '{split}_captions' holds {found}")
    return arrays


def _found(array: np.ndarray) -> str:
    return f"found {array.dtype} {array.shape}"


def _read_urls(path: Path, base: Path) -> np.ndarray:
    """Where each picture is: web addresses as they are, file names as paths on this machine."""
    lines = _there(path).read_text(encoding="utf-8").split("\n")
    lines = lines[:-1] if lines[-1] == "" else lines
    return np.array([line if "://" in line else str(base / line) for line in lines])


def _read_scenes(path: Path, data: dict[str, Any]) -> dict[str, list[dict]]:
    """What each drawn picture shows, as many as there are pictures."""
    content = _read_json(path)
    for split in SPLITS:
        found = content.get(split) if isinstance(content, dict) else None
        if not isinstance(found, list) or len(found) != len(data[f"{split}_urls"]):
            what = f"as many scenes as {split}2014_urls.txt has lines, {len(data[f'{split}_urls'])}"
            raise ValueError(f"{path}: the key '{split}' must hold {what}")
    return {f"{split}_scenes": content[split] for split in SPLITS}


def _check_pictures(data: dict[str, Any], split: str, path: Path, base: Path) -> None:
    """Features, urls and picture numbers of a split speak of the same pictures."""
    count, pictures = len(data[f"{split}_features"]), data[f"{split}_image_idxs"]
    if not 0 <= pictures.min() <= pictures.max() < count:
        found = f"the pictures {pictures.min()} to {pictures.max()}, but {path} has features of {count}"
        raise ValueError(f"{base / CAPTIONS}: '{split}_image_idxs' names {found}")
    if len(data[f"{split}_urls"]) != count:
        lines = f"{len(data[f'{split}_urls'])} lines, but {path} has features of {count} pictures"
        raise ValueError(f"{base / f'{split}2014_urls.txt'} has {lines}")


def _keep(data: dict[str, Any], max_train: int, rng: Any) -> dict[str, Any]:
    """So many training captions, drawn with replacement; the pictures stay."""
    chosen = rng.randint(len(data["train_captions"]), size=max_train)
    kept = {name: data[name][chosen] for name in ("train_captions", "train_image_idxs")}
    return data | kept
