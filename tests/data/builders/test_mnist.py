import gzip

import numpy as np
import pytest

from dgjax.data.builders import mnist, rotated
from dgjax.errors import UserError


@pytest.mark.parametrize("name", ["a-idx3-ubyte", "a-idx3-ubyte.gz", "a.idx3-ubyte", "a.idx3-ubyte.gz"])
def test_idx_files_plain_and_gzipped_under_either_name(tmp_path, write_idx, name):
  array = np.random.default_rng(0).integers(0, 256, (3, 4, 5))
  write_idx(tmp_path / name, array)
  np.testing.assert_array_equal(mnist.read_idx(mnist.find(tmp_path, "a-idx3-ubyte")), array)


def test_an_absent_file_is_named(tmp_path):
  with pytest.raises(UserError, match=rf"no train-images-idx3-ubyte \(nor .*\.gz\) in {tmp_path}: config\.data\.dir"):
    mnist.find(tmp_path, "train-images-idx3-ubyte")


@pytest.mark.parametrize("content,message", [
  (b"", "no IDX file of bytes"), (b"text, not digits", "no IDX file"),
  (b"\0\0\x0d\1\0\0\0\4" + bytes(16), "no IDX file of bytes"),  # floats
  (b"\0\0\x08\2\0\0", "holds 6 bytes"), (b"\0\0\x08\1\0\0\0\4abc", "holds 11 bytes, not the 12 that its header says")])
def test_damaged_idx_files(tmp_path, content, message):
  path = tmp_path / "train-images-idx3-ubyte"
  path.write_bytes(content)
  with pytest.raises(UserError, match=f"{path} .*{message}.*: fetch it again"):
    mnist.read_idx(path)


@pytest.mark.parametrize("cut", [5, 40])
def test_a_cut_gzip_file(tmp_path, write_idx, cut):
  path = tmp_path / "x.gz"
  write_idx(path, np.random.default_rng(0).integers(0, 256, (9, 9)))
  path.write_bytes(path.read_bytes()[:-cut])
  with pytest.raises(UserError, match=f"cannot read {path} .*: fetch it again"):
    mnist.read_idx(path)
  path.write_bytes(b"no gzip")
  with pytest.raises(UserError, match=f"cannot read {path}"):
    mnist.read_idx(path)


def test_files_of_something_else(tmp_path, config, write_idx):
  write_idx(tmp_path / "train-images-idx3-ubyte", np.zeros((5, 20, 20)))
  write_idx(tmp_path / "train-labels-idx1-ubyte", np.arange(5))
  layout = rotated.RotatedMnist(config("rotated_mnist", dir=str(tmp_path)))
  with pytest.raises(UserError, match=r"train-images-idx3-ubyte holds \(5, 20, 20\), not MNIST's \(5, 28, 28\)"):
    layout.images("train")
  write_idx(tmp_path / "train-labels-idx1-ubyte", np.array([10]))
  with pytest.raises(UserError, match="train-labels-idx1-ubyte does not hold digits' labels"):
    layout.labels("train")


def test_embedded_digits_look_like_mnist(config):
  layout = rotated.RotatedDigits(config("rotated_digits"))
  assert [len(layout.labels(part)) for part in ("train", "test")] == [1437, 360]
  images = layout.images("train")
  assert images.shape == (1437, 28, 28) and images.dtype == np.uint8
  assert images[:, 4:24, 4:24].max() == 255 and images[:, :4].max() == images[:, :, 24:].max() == 0
  assert set(layout.labels("test")) == set(range(10))


def test_real_files(mnist_files):
  root, layout = mnist_files
  assert np.bincount(layout.labels("train")).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
  images = layout.images("test")
  assert images.shape == (10000, 28, 28) and round(images.mean() / 255, 4) == 0.1325
  with gzip.open(mnist.find(root, "t10k-images-idx3-ubyte")) as file:
    assert file.read()[16:16 + 784] == images[0].tobytes()


@pytest.fixture
def mnist_files(mnist, config):
  layout = rotated.RotatedMnist(config("rotated_mnist", dir=mnist))
  return layout.root, layout
