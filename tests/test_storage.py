"""Files that cannot be trusted: pickles made to break the reader end in a ValueError, in a process that goes on."""

import hashlib
import json
import pickle
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from common import checkpoint
from common.classifiers.fc_net import FullyConnectedNet
from common.notebook import ROOT
from common.storage import load_arrays

READ = """
import resource, sys
import numpy as np
from common import storage
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    found = storage.load_arrays(sys.stdin.buffer.read())
    print("loaded", repr(found)[:100], found.tolist() if isinstance(found, np.ndarray) else "")
except ValueError as error:
    print("ValueError:", str(error)[:300])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
CORE = b"numpy.core.multiarray"
START = b"\x80\x02"
NDARRAY = b"cnumpy\nndarray\n"
RECONSTRUCT = b"c" + CORE + b"\n_reconstruct\n"
EMPTY = RECONSTRUCT + NDARRAY + b"K\x00\x85C\x01b\x87R"


def number(n):
    return b"\x8a\x08" + struct.pack("<q", n)


def dtype(name, state=b""):
    return b"cnumpy\ndtype\n" + b"\x8c" + bytes([len(name)]) + name + b"\x85R" + state


def array(kind, data, shape, start=EMPTY):
    state = b"(K\x01" + b"(" + b"".join(map(number, shape)) + b"t" + kind + b"\x89" + b"B"
    return start + state + struct.pack("<I", len(data)) + data + b"tb"


def flags_cleared(kind):
    return dtype(kind, b"(K\x03\x8c\x01|NNN" + number(8) + number(8) + number(0) + b"tb")


ADDRESSES = b"\x41\x41\x41\x41\x41\x41\x00\x00" * 4
ATTACKS = {
    "objects from bytes": START + array(dtype(b"O8"), ADDRESSES, [4]) + b".",
    "objects of which the dtype says nothing": START + array(flags_cleared(b"O8"), ADDRESSES, [4]) + b".",
    "objects from a buffer": (
        START
        + b"cnumpy.core.numeric\n_frombuffer\n(C\x20"
        + (ADDRESSES + flags_cleared(b"O8") + b"K\x04\x85\x8c\x01CtR.")
    ),
    "more elements than bytes": START + array(dtype(b"i8"), bytes(8), [2**20]) + b".",
    "fewer elements than bytes": START + array(dtype(b"i8"), bytes(64), [1]) + b".",
    "a negative length": START + array(dtype(b"i8"), bytes(8), [-1]) + b".",
    "lengths whose product overflows": START + array(dtype(b"u1"), b"", [2**33, 2**31, 0]) + b".",
    "an array before the buffer": (
        START + NDARRAY + b"(K\x04\x85" + dtype(b"i8") + b"C\x20" + bytes(32) + number(-8) + b"tR."
    ),
    "an array with strides": (
        START + NDARRAY + b"(K\x04\x85" + dtype(b"i8") + b"C\x20" + bytes(32) + b"K\x00" + number(2**20) + b"\x85tR."
    ),
    "a state given twice": START + array(dtype(b"i8"), bytes(8), [1], start=array(dtype(b"i8"), bytes(8), [1])) + b".",
    "an attribute of a function": START + RECONSTRUCT + b"}\x8c\x05alienK\x01sb.",
    "an attribute of a function, by its slots": START + b"c_codecs\nencode\nN}\x8c\x0c__defaults__(K\x01ts\x86b.",
    "an attribute of a class": START + NDARRAY + b"N}\x8c\x05alienK\x01s\x86b.",
    "text in an array": START + array(dtype(b"U1"), bytes(4), [1]) + b".",
    "fields in an array": START + array(dtype(b"i4,i4"), bytes(8), [1]) + b".",
    "a memo of 2^26 places": START + b"Nr" + struct.pack("<I", 2**26) + b".",
    "a bytearray of 2^40 bytes": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".",
    "bytes of 2^62 bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b".",
    "a frame of 2^62 bytes": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b".",
    "a key of a million nested tuples": START + b"}K\x01" + b"\x85" * 2_000_000 + b"K\x01s.",
    "the same text as bytes a thousand times": (
        START + b"(X" + struct.pack("<I", 2**20) + b"a" * 2**20 + b"q\x000"
        + (b"c_codecs\nencode\nh\x00\x8c\x06latin1\x86R" * 1000) + b"t."
    ),
    "an object by NEWOBJ": START + NDARRAY + b"K\x04\x85\x85\x81.",
    "an extension": START + b"\x82\x01.",
}  # fmt: skip
HARMLESS = {"a memo of 2^26 places"}  # is what it says, and takes no memory


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell a process its memory")
@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_end_with_an_exception(name):
    done = subprocess.run([sys.executable, "-c", READ], cwd=ROOT, input=ATTACKS[name], capture_output=True, timeout=120)
    assert done.returncode == 0, f"ended with {done.returncode}: {done.stderr.decode()[-500:]}"
    said, megabytes = done.stdout.decode().splitlines()
    assert said.startswith("loaded None" if name in HARMLESS else "ValueError: this is not a readable pickle of NumPy")
    assert int(megabytes) < 200
    assert not hasattr(np.empty(0).__reduce__()[0], "alien")


def arrays():
    rng = np.random.RandomState(0)
    yield from (rng.randint(0, 2, (3, 4)).astype(kind) for kind in ("?", "u1", "i2", ">i4", "<u8", "f2", ">f4", "f8"))
    yield from (np.empty(shape) for shape in ((), (0,), (0, 3), (1, 0, 2)))
    yield from (np.asfortranarray(rng.randn(3, 4)), rng.randn(6, 8)[::2, ::-2].T, np.array(2.5))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_numpy_writes_is_read(protocol):
    shared = np.arange(5)
    content = {"all": list(arrays()), 1: (None, True, 2.5, -(2**70), "ä", b"\xff", b""), "twice": [shared, shared]}
    stream = pickle.dumps(content, protocol=protocol)
    found = load_arrays(stream)
    assert found[1] == content[1] and found["twice"][0] is found["twice"][1]
    for got, want in zip(found["all"], pickle.loads(stream)["all"], strict=True):
        assert type(got) is np.ndarray and got.dtype == want.dtype and got.shape == want.shape
        np.testing.assert_array_equal(got, want)
        assert got.flags.f_contiguous == want.flags.f_contiguous and got.flags.writeable


def test_bits_that_flip_anywhere_raise_value_error_or_nothing():
    stream, rng = pickle.dumps({"a": [np.arange(3), {"b": (1, "c")}]}, protocol=2), np.random.RandomState(0)
    for _ in range(2000):
        broken = bytearray(stream)
        broken[rng.randint(len(stream))] ^= 1 << rng.randint(8)
        try:
            load_arrays(bytes(broken))
        except ValueError as error:
            assert "is not a readable pickle" in str(error)


# Writing ----------------------------------------------------------------------------------------------------------

WRITES = """
import sys, time
from common.storage import atomic_write
with atomic_write(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX locks")
def test_drafts_of_the_killed_are_swept_and_those_of_the_living_stay(tmp_path):
    (tmp_path / ".notes.part").write_text("somebody's")
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITES, str(tmp_path / name)], cwd=ROOT, stdout=subprocess.PIPE)
        for name in ("run_epoch_1.pkl", "run_epoch_2.pkl")
    ]
    try:
        for process in processes:
            process.stdout.readline()
        processes[0].kill()
        processes[0].wait()
        checkpoint.write(tmp_path / "run_epoch_3.pkl", {"kind": "x"})
        names = sorted(path.name.rpartition(".")[0] for path in tmp_path.iterdir())
        assert [name[:16] for name in names] == [".notes", ".run_epoch_2.pkl", "run_epoch_3"]
    finally:
        processes[1].kill()
        processes[1].wait()
    checkpoint.write(tmp_path / "run_epoch_3.pkl", {"kind": "x"})
    assert sorted(path.name for path in tmp_path.iterdir()) == [".notes.part", "run_epoch_3.pkl"]


# What we write ourselves ------------------------------------------------------------------------------------------

CONTENT = {
    "kind": "x",
    "params": {"W1": np.arange(6.0).reshape(2, 3), "b/ 1": np.zeros(0, "f2"), "b/_1": np.array(True)},
    1: [(1, 2.5), [None, True, "ä\x00"], {}, b"\x00\xff", (), -(2**70)],
    "loss": [float("inf"), -0.0, 1e-310, 0.1 + 0.2],
    "state": ("MT19937", np.arange(3, dtype=np.uint32), 3, 0, 0.0),
}


def same(a, b):
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        [same(a[key], b[key]) for key in a]
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        [same(*pair) for pair in zip(a, b, strict=True)]
    elif isinstance(a, np.ndarray):
        assert (a.dtype, a.shape) == (b.dtype, b.shape) and a.tobytes() == b.tobytes()
    else:
        assert repr(a) == repr(b)


def test_files_of_ours_are_plain_arrays_and_json(tmp_path):
    checkpoint.write(path := tmp_path / "x.pkl", CONTENT)
    same(checkpoint.read(path, "x"), CONTENT)
    first = path.read_bytes()
    checkpoint.write(path, CONTENT)
    assert path.read_bytes() == first
    with np.load(path, allow_pickle=False) as file:
        np.testing.assert_array_equal(file["params/W1"], CONTENT["params"]["W1"])
        assert json.loads(file["content.json"])["dict"][0] == ["kind", "x"]


def test_a_model_can_be_looked_at_without_the_workbook(tmp_path):
    net = FullyConnectedNet([5], 4, 3)
    net.save(tmp_path / "net.pkl")
    with np.load(tmp_path / "net.pkl", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["params/W2"], net.params["W2"])


def of_the_first_edition(content):
    payload = pickle.dumps(checkpoint.plain(content), protocol=4)
    return payload + hashlib.sha256(payload).digest()


def test_files_of_the_first_edition_are_read(tmp_path):
    (tmp_path / "x.pkl").write_bytes(of_the_first_edition(CONTENT))
    same(checkpoint.read(tmp_path / "x.pkl", "x"), CONTENT)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda archive: archive.writestr("content.json", "[" * 100_000),
        lambda archive: archive.writestr("content.json", '{"dict": [["kind", "x"], ["a", {"array": "a"}]]}'),
        lambda archive: archive.writestr("content.json", '{"object": 1}'),
        lambda archive: archive.writestr("content.json", '{"dict": [[[], 1]]}'),
        lambda archive: archive.writestr("content.json", " " * 10**7 + "{}", zipfile.ZIP_DEFLATED),
        lambda archive: archive.writestr("other.json", "{}"),
        lambda archive: (
            archive.writestr("a.npy", b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f8', 'fortran_order': False, 'shape': "
                             b"(1099511627776,), }".ljust(80)),
            archive.writestr("content.json", '{"dict": [["kind", "x"], ["a", {"array": "a"}]]}'),
        ),
    ],
)  # fmt: skip
def test_zips_of_somebody_else_are_refused(tmp_path, spoil):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        spoil(archive)
    payload = (tmp_path / "x.zip").read_bytes()
    (tmp_path / "x.pkl").write_bytes(payload + hashlib.sha256(payload).digest())
    with pytest.raises(ValueError, match=r"x\.pkl is no checkpoint of this workbook"):
        checkpoint.read(tmp_path / "x.pkl", "x")
