"""The CIFAR-10 loaders: layouts, sizes, memory, and files that are damaged or hostile."""

import os
import pickle
import tracemalloc

import numpy as np
import pytest

from common.data import cifar10 as loader
from common.data import store
from common.data.cifar10 import get_CIFAR10_data, get_CIFAR10_images, get_CIFAR10_rows, load_CIFAR10, load_CIFAR_batch

N, M = 12, 20  # pictures in a training batch and in the test batch of the small fixture


def content(n, seed=0):
    rng = np.random.RandomState(seed)
    return {
        "batch_label": "small",
        "labels": rng.randint(0, 10, n).tolist(),
        "data": rng.randint(0, 256, (n, 3072)).astype(np.uint8),
        "filenames": [f"{i}.png" for i in range(n)],
    }


@pytest.fixture
def small(tmp_path):
    """A folder with five training batches of N and a test batch of M pictures; returns its parent."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for i, name in enumerate((*loader.TRAIN_FILES, *loader.TEST_FILES)):
        (folder / name).write_bytes(pickle.dumps(content(M if name == "test_batch" else N, i), protocol=2))
    return tmp_path


@pytest.fixture
def save(tmp_path):
    def write(thing, protocol=2):
        path = tmp_path / "batch"
        path.write_bytes(thing if isinstance(thing, bytes) else pickle.dumps(thing, protocol=protocol))
        return path

    return write


# Layout -----------------------------------------------------------------------------------------------------


def test_planes_are_red_green_blue_row_by_row(save):
    row = np.arange(3072) % 251
    X, y = load_CIFAR_batch(save({"data": row.astype(np.uint8)[None], "labels": [7]}))
    assert X.shape == (1, 32, 32, 3) and X.dtype == np.float32 and X.flags.c_contiguous
    assert y.dtype == np.int64 and y.tolist() == [7]
    for height, width, colour in [(0, 0, 0), (0, 5, 1), (31, 31, 2), (17, 3, 1)]:
        assert X[0, height, width, colour] == row[1024 * colour + 32 * height + width]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_pickle_protocol(save, protocol):
    want = content(3)
    X, y = load_CIFAR_batch(save(want, protocol), np.uint8)
    assert X.dtype == np.uint8 and y.tolist() == want["labels"]
    np.testing.assert_array_equal(X.transpose(0, 3, 1, 2).reshape(3, 3072), want["data"])


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_old_and_new_numpy_names(save, module):
    stream = pickle.dumps(content(3), protocol=2)
    for name in (b"numpy._core.multiarray", b"numpy.core.multiarray"):
        stream = stream.replace(b"c" + name + b"\n", b"c" + module + b"\n")
    assert module in stream
    assert load_CIFAR_batch(save(stream))[0].shape == (3, 32, 32, 3)


def test_bytes_keys_as_python_3_sees_the_published_files(save):
    want = content(3)
    assert load_CIFAR_batch(save({k.encode(): v for k, v in want.items()}))[1].tolist() == want["labels"]


def test_stream_of_python_2(save):
    """The published files hold the pixels as a Python 2 string, which Python 3 reads as latin-1 text."""
    pixels = bytes(range(256)) * 12
    stream = (
        b"\x80\x02}(U\x06labels]K\x03aU\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        b"K\x00\x85U\x01b\x87R(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T\x00\x0c\x00\x00" + pixels + b"tbu."
    )
    X, y = load_CIFAR_batch(save(stream), np.uint8)
    assert y.tolist() == [3]
    assert X.transpose(0, 3, 1, 2).tobytes() == pixels


def test_root_may_be_the_folder_or_its_parent(small):
    above, inside = load_CIFAR10(small), load_CIFAR10(str(small / "cifar-10-batches-py"))
    assert [a.shape for a in above] == [(5 * N, 32, 32, 3), (5 * N,), (M, 32, 32, 3), (M,)]
    for a, b in zip(above, inside, strict=True):
        np.testing.assert_array_equal(a, b)
    first, labels = load_CIFAR_batch(small / "cifar-10-batches-py" / "data_batch_1")
    np.testing.assert_array_equal(above[0][:N], first)
    np.testing.assert_array_equal(above[1][:N], labels)


def test_root_without_batches_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no CIFAR-10 batches in .*make data"):
        load_CIFAR10(tmp_path)


def test_missing_batch_is_named(small):
    (small / "cifar-10-batches-py" / "data_batch_4").unlink()
    with pytest.raises(FileNotFoundError, match="data_batch_4"):
        load_CIFAR10(small)


# Splits -----------------------------------------------------------------------------------------------------


def test_split_is_training_then_validation(small):
    X, y, Xt, yt = load_CIFAR10(small)
    data = get_CIFAR10_data(30, 10, 8, False, root=small)
    assert list(data) == ["X_train", "y_train", "X_val", "y_val", "X_test", "y_test"]
    np.testing.assert_array_equal(data["X_train"], X[:30].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(data["X_val"], X[30:40].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(data["X_test"], Xt[:8].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(np.r_[data["y_train"], data["y_val"]], y[:40])
    np.testing.assert_array_equal(data["y_test"], yt[:8])
    assert all(data[k].flags.c_contiguous for k in data)


def test_training_takes_what_validation_leaves(small):
    data = get_CIFAR10_data(num_validation=7, num_test=5, root=small)
    assert data["X_train"].shape == (5 * N - 7, 3, 32, 32) and data["X_val"].shape[0] == 7


@pytest.mark.parametrize("dtype, atol", [(np.float32, 1e-4), (np.float64, 1e-10)])
def test_mean_is_of_the_training_part_only(small, dtype, atol):
    raw = get_CIFAR10_data(30, 10, 8, False, dtype=np.float64, root=small)
    data = get_CIFAR10_data(30, 10, 8, dtype=dtype, root=small)
    mean = raw["X_train"].mean(axis=0)
    for part in ("X_train", "X_val", "X_test"):
        assert data[part].dtype == dtype
        np.testing.assert_allclose(data[part], raw[part] - mean, atol=atol)


def test_images_are_raw_and_channels_last(small):
    data, (X, *_) = get_CIFAR10_images(30, 10, 8, dtype=np.uint8, root=small), load_CIFAR10(small, np.uint8)
    np.testing.assert_array_equal(data["X_val"], X[30:40])


def test_rows_with_the_bias_trick(small):
    data = get_CIFAR10_rows(30, 10, 8, 6, root=small)
    assert {k: v.shape for k, v in data.items() if k[0] == "X"} == {
        "X_train": (30, 3073), "X_val": (10, 3073), "X_test": (8, 3073), "X_dev": (6, 3073),
    }  # fmt: skip
    images = get_CIFAR10_images(30, 10, 8, root=small)
    mean = images["X_train"].astype(np.float64).mean(axis=0)
    for part in ("X_train", "X_val", "X_test"):
        np.testing.assert_array_equal(data[part][:, -1], 1)
        np.testing.assert_allclose(data[part][:, :-1].reshape(-1, 32, 32, 3), images[part] - mean, atol=1e-4)


def test_dev_set_is_a_seeded_draw_from_training(small):
    a, b = (get_CIFAR10_rows(30, 10, 8, 6, root=small, seed=seed) for seed in (1, 2))
    again = get_CIFAR10_rows(30, 10, 8, 6, root=small, seed=1)
    np.testing.assert_array_equal(a["X_dev"], again["X_dev"])
    assert not np.array_equal(a["X_dev"], b["X_dev"])
    found = [np.flatnonzero((a["X_train"] == row).all(axis=1)) for row in a["X_dev"]]
    assert len({int(i[0]) for i in found}) == 6
    np.testing.assert_array_equal(a["y_dev"], [a["y_train"][i[0]] for i in found])


def test_rows_without_bias_or_mean(small):
    data = get_CIFAR10_rows(30, 10, 8, 6, bias=False, subtract_mean=False, dtype=np.uint8, root=small)
    np.testing.assert_array_equal(data["X_train"].reshape(-1, 32, 32, 3), load_CIFAR10(small, np.uint8)[0][:30])


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"num_training": 0}, "num_training is 0"),
        ({"num_training": -5}, "num_training is -5"),
        ({"num_training": 55}, "num_training is 55.*at most 50"),
        ({"num_validation": 0}, "num_validation is 0"),
        ({"num_validation": 60}, "num_validation is 60.*at most 59"),
        ({"num_test": 21}, "num_test is 21.*at most 20"),
        ({"num_test": -1}, "num_test is -1"),
    ],
)
@pytest.mark.parametrize("load", [get_CIFAR10_data, get_CIFAR10_images, get_CIFAR10_rows])
def test_sizes_that_cannot_be(small, load, arguments, words):
    with pytest.raises(ValueError, match=words):
        load(**{"num_validation": 10, "num_test": 8, "root": small} | arguments)


def test_sizes_that_are_no_integers(small):
    with pytest.raises(TypeError, match="num_test must be an integer, not float"):
        get_CIFAR10_data(30, 10, 8.0, root=small)


def test_dev_set_larger_than_training(small):
    with pytest.raises(ValueError, match=r"num_dev is 31.*at most 30"):
        get_CIFAR10_rows(30, 10, 8, 31, root=small)


def test_unsigned_pixels_cannot_go_below_zero(small):
    for load in (get_CIFAR10_data, get_CIFAR10_rows):
        with pytest.raises(ValueError, match="uint8 cannot hold"):
            load(30, 10, 8, **({"num_dev": 5} if load is get_CIFAR10_rows else {}), dtype=np.uint8, root=small)


@pytest.mark.parametrize("dtype", [np.int64, np.float16, bool])
def test_other_dtypes_are_refused(small, dtype):
    with pytest.raises(ValueError, match=r"dtype is .*allowed are uint8, float32, float64"):
        load_CIFAR10(small, dtype)


def test_only_one_copy_in_floating_point(tmp_path):
    folder, n = tmp_path / "b", 200
    folder.mkdir()
    for name in (*loader.TRAIN_FILES, *loader.TEST_FILES):
        (folder / name).write_bytes(pickle.dumps(content(n), protocol=5))
    tracemalloc.start()
    data = get_CIFAR10_data(num_validation=100, num_test=100, root=folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    floats = sum(v.nbytes for k, v in data.items() if k[0] == "X")
    raw = 6 * n * 3072
    assert peak < floats + 2 * raw + 2e6, f"peak {peak} for {floats} bytes of result and {raw} bytes of uint8"


# Damage and malice ------------------------------------------------------------------------------------------


class _Evil:
    def __init__(self, function, *arguments):
        self.how = function, arguments

    def __reduce__(self):
        return self.how


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("function", [os.system, eval, exec])
def test_a_pickle_that_runs_code_does_not_run(save, tmp_path, function, protocol):
    trace = tmp_path / "trace"
    command = f"touch {trace}" if function is os.system else f"open({str(trace)!r}, 'w')"
    path = save({"data": _Evil(function, command), "labels": [0]}, protocol)
    with pytest.raises(ValueError, match=rf"batch.*refused: .*\.{function.__name__}"):
        load_CIFAR_batch(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    "stream",
    [
        b"cnumpy\nload\n(S'x'\ntR.",  # NumPy's own, but not an array
        b"cnumpy.core.multiarray\nfromfile\n(tR.",
        b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.",  # a dotted name
        b"c_codecs\nencode\n(S'x'\nS'zip'\ntR.",  # a codec other than latin-1
        b"cbuiltins\ngetattr\n.",
    ],
)
def test_other_globals_are_refused(save, stream):
    with pytest.raises(ValueError, match=r"batch.*refused"):
        load_CIFAR_batch(save(stream))


@pytest.mark.parametrize("keep", [0, 1, 10, 500, 0.5, 0.99, -1])
def test_truncated_batch(save, keep):
    stream = pickle.dumps(content(3), protocol=2)
    with pytest.raises(ValueError, match="batch"):
        load_CIFAR_batch(save(stream[: int(len(stream) * keep) if isinstance(keep, float) else keep]))


def test_garbage_never_escapes_as_another_error(save):
    stream = pickle.dumps(content(1), protocol=2)
    rng = np.random.RandomState(0)
    for _ in range(300):
        broken = bytearray(stream)
        for place in rng.randint(0, 300, 3):  # the head holds the structure
            broken[place] ^= 1 << rng.randint(8)
        try:
            X, y = load_CIFAR_batch(save(bytes(broken)))
        except ValueError as error:
            assert "batch" in str(error)
        else:
            assert X.shape[1:] == (32, 32, 3) and len(X) == len(y)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"labels": [0, 1]}, "3 pictures, but labels of shape"),
        ({"labels": [0, 1, 10]}, "labels must be integers from 0 to 9"),
        ({"labels": [0, 1, -1]}, "labels must be integers from 0 to 9"),
        ({"labels": [0, 1, 2.5]}, "labels must be integers"),
        ({"labels": [[0], [1], [2, 3]]}, "labels"),
        ({"data": np.zeros((3, 3071), np.uint8)}, r"uint8 of shape \(N, 3072\), found uint8 \(3, 3071\)"),
        ({"data": np.zeros((3, 3072))}, "found float64"),
        ({"data": np.zeros(3072, np.uint8)}, "found uint8"),
        ({"data": "pixels"}, "found str"),
        ({"data": np.zeros((0, 3072), np.uint8), "labels": []}, "no pictures"),
    ],
)
def test_wrong_content_is_named(save, change, words):
    with pytest.raises(ValueError, match=f"batch.*{words}"):
        load_CIFAR_batch(save(content(3) | change, protocol=4))


@pytest.mark.parametrize("thing, words", [([1, 2], "expected a dict, found list"), ({"data": 1}, "labels")])
def test_wrong_container_is_named(save, thing, words):
    with pytest.raises(ValueError, match=words):
        load_CIFAR_batch(save(thing))


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_CIFAR_batch(tmp_path / "nowhere")


def test_short_names_of_the_classes():
    assert " ".join(loader.CLASSES) == "plane car bird cat deer dog frog horse ship truck"


# PyTorch ----------------------------------------------------------------------------------------------------


def test_tensors_in_zero_to_one(small):
    torch = pytest.importorskip("torch")
    from common.pytorch.data import cifar10

    X, y, _, yt = load_CIFAR10(small)
    x, labels, x_test, labels_test = cifar10(40, root=small)
    assert x.shape == (40, 3, 32, 32) and x_test.shape == (M, 3, 32, 32) and x.dtype == torch.float32
    np.testing.assert_allclose(x.numpy(), X[:40].transpose(0, 3, 1, 2) / 255, rtol=1e-6)
    assert labels.tolist() == y[:40].tolist() and labels_test.tolist() == yt.tolist()
    assert cifar10(4, 4, torch.float64, root=small)[0].dtype == torch.float64


@pytest.mark.parametrize("sizes", [(0, None), (-1, None), (61, None), (None, 0), (None, M + 1)])
def test_tensor_sizes_that_cannot_be(small, sizes):
    pytest.importorskip("torch")
    from common.pytorch.data import cifar10

    with pytest.raises(ValueError, match="it must be at least 1 and at most"):
        cifar10(*sizes, root=small)


@pytest.mark.parametrize("bias, flatten", [(False, True), (True, True), (False, False)])
def test_preprocessing(small, bias, flatten):
    torch = pytest.importorskip("torch")
    from common.pytorch.data import cifar10, preprocess_cifar10

    data = preprocess_cifar10(bias_trick=bias, validation_ratio=0.2, dtype=torch.float64, flatten=flatten, root=small)
    x, y, x_test, _ = cifar10(dtype=torch.float64, root=small)
    assert torch.equal(data["y_train"], y[:48]) and torch.equal(data["y_val"], y[48:])
    mean = x.mean(dim=(0, 2, 3), keepdim=True)
    for part, want in (("X_train", x[:48]), ("X_val", x[48:]), ("X_test", x_test)):
        want = (want - mean).flatten(1) if flatten else want - mean
        if bias:
            assert (data[part][:, -1] == 1).all()
        torch.testing.assert_close(data[part][:, :-1] if bias else data[part], want)


def test_preprocessing_bad_arguments(small):
    pytest.importorskip("torch")
    from common.pytorch.data import cifar10, preprocess_cifar10

    for ratio in (0, 1, -0.5, 0.001):
        with pytest.raises(ValueError, match="validation_ratio is"):
            preprocess_cifar10(validation_ratio=ratio, root=small)
    with pytest.raises(ValueError, match="bias_trick=True needs flatten=True"):
        preprocess_cifar10(bias_trick=True, flatten=False, root=small)
    with pytest.raises(ValueError, match="allowed are floating types"):
        import torch

        cifar10(dtype=torch.int64, root=small)


# The published files ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published():
    if not store.is_there("cifar10"):
        pytest.skip("the full edition of CIFAR-10 is not under the data root (`make data`)")
    return store.data_root() / "cifar-10-batches-py"


def test_published_files(published):
    X, y, Xt, yt = load_CIFAR10(published, np.uint8)
    assert X.shape == (50000, 32, 32, 3) and Xt.shape == (10000, 32, 32, 3)
    assert y[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3] and yt[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    assert np.bincount(y).tolist() == [5000] * 10 and np.bincount(yt).tolist() == [1000] * 10
    mean = X.reshape(-1, 3).mean(axis=0) / 255
    np.testing.assert_allclose(mean, (0.4914, 0.4822, 0.4465), atol=1e-4)  # the numbers everybody uses


def test_published_split(published):
    data = get_CIFAR10_data(root=published)
    assert [len(data[k]) for k in ("X_train", "X_val", "X_test")] == [49000, 1000, 1000]
    assert np.abs(data["X_train"].mean(axis=0, dtype=np.float64)).max() < 1e-3


def test_flipped_bit_in_a_published_file(published, tmp_path):
    stream = bytearray((published / "data_batch_2").read_bytes())
    stream[1_000_000] ^= 1  # one pixel, one grey level: only the checksum can tell
    path = tmp_path / "data_batch_2"
    path.write_bytes(stream)
    with pytest.raises(ValueError, match=r"data_batch_2 is damaged: .*md5:d4bba439e000b95fd0a9bffe97cbabec"):
        load_CIFAR_batch(path)
