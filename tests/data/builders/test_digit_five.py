import gzip
import io
import logging

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from dgjax import data
from dgjax.data.builders import blended, digit_five, fonts, forms, matlab, rendered
from dgjax.errors import UserError

COUNTS = {"train": 33, "test": 12}
FIVE = tuple(forms.PUBLISHED)


def digits(*shape, seed=0):
  """Random images and labels of both parts."""
  rng = np.random.default_rng(seed)
  return {part: (rng.integers(0, 256, (count, *shape), dtype=np.uint8), (np.arange(count) * 3 + 1) % 10)
          for part, count in COUNTS.items()}


def one_hot(labels):
  return np.eye(10)[labels]


def tens(labels):
  return np.where(labels == 0, 10, labels)[:, None].astype(np.uint8)


def mnist_mat(root):
  found = digits(28, 28)
  savemat(root / "mnist_data.mat", {
    key: value for part, (images, labels) in found.items()
    for key, value in ((f"{part}_28", images[..., None].astype(np.float32)), (f"label_{part}", one_hot(labels)))})
  return found


def mnist_m_mat(root):
  found = digits(28, 28, 3)
  savemat(root / "mnistm_with_label.mat", {
    key: value for part, (images, labels) in found.items()
    for key, value in ((part, images), (f"label_{part}", one_hot(labels)))}, do_compression=True)
  return found


def mnist_m_folders(root):
  found = digits(32, 32, 3)
  (root / "mnist_m").mkdir(exist_ok=True)
  for part, (images, labels) in found.items():
    (root / "mnist_m" / f"mnist_m_{part}").mkdir()
    for number, image in enumerate(images):
      Image.fromarray(image).save(root / "mnist_m" / f"mnist_m_{part}" / f"{number:08d}.png")
    (root / "mnist_m" / f"mnist_m_{part}_labels.txt").write_text(
      "".join(f"{number:08d}.png {label}\n" for number, label in enumerate(labels)))
  return found


def house_numbers(root, names="{}_32x32.mat", **keys):
  found = digits(32, 32, 3)
  for part, (images, labels) in found.items():
    savemat(root / names.format(part), {"X": np.moveaxis(images, 0, -1), "y": tens(labels)}, **keys)
  return found


def svhn_in_a_folder(root):
  (root / "svhn").mkdir()
  return house_numbers(root / "svhn", "svhn_{}_32x32.mat", do_compression=True)


def synth(root):
  return house_numbers(root, "synth_{}_32x32.mat")


def syn_mat(root):
  found = digits(32, 32, 3)
  savemat(root / "syn_number.mat", {
    key: value for part, (images, labels) in found.items()
    for key, value in ((f"{part}_data", images), (f"{part}_label", labels[:, None]))})
  return found


def usps_mat(root):
  found = digits(28, 28)
  cells = np.empty((2, 2), object)
  for row, (images, labels) in zip(cells, found.values(), strict=True):
    row[:] = images[:, None] / 255, labels[:, None]
  savemat(root / "usps_28x28.mat", {"dataset": cells})
  return found


def usps_text(root, end=".gz"):
  found = digits(16, 16)
  for part, (images, labels) in found.items():
    text = "".join(f"{label:.4f} " + " ".join(f"{value:.4f}" for value in image.ravel() / 127.5 - 1) + " \n"
                   for image, label in zip(images, labels, strict=True)).encode()
    (root / f"zip.{part}{end}").write_bytes(gzip.compress(text) if end else text)
  return found


def usps_plain(root):
  return usps_text(root, "")


def layout(config, root, **keys):
  return digit_five.DigitFive(config("digit_five", **{"dir": str(root), "rendered": (40, 20)} | keys))


def decode(encoded):
  return np.asarray(Image.open(io.BytesIO(encoded)))


@pytest.mark.parametrize("domain,write", [
  ("mnist", mnist_mat), ("mnist_m", mnist_m_mat), ("mnist_m", mnist_m_folders), ("svhn", house_numbers),
  ("svhn", svhn_in_a_folder), ("synthetic", syn_mat), ("synthetic", synth), ("usps", usps_mat), ("usps", usps_text),
  ("usps", usps_plain)])
def test_published_forms_pixel_by_pixel(config, tmp_path, domain, write):
  wanted = write(tmp_path)
  made = layout(config, tmp_path, domains=domain)
  assert made.domains == (domain,)
  examples = made.examples(domain)
  for part, (images, labels) in wanted.items():
    chosen = [example for example in examples if example.splits == (part,)]
    assert [example.label for example in chosen] == labels.tolist()
    assert {example.label for example in chosen} == set(range(10))  # and no 10
    for example, image in zip(chosen, images, strict=True):
      np.testing.assert_array_equal(decode(made.read(example)), image)


def test_idx_files_in_either_folder(config, tmp_path, write_idx):
  found = digits(28, 28)
  (tmp_path / "mnist").mkdir()
  for part, name in (("train", "train"), ("test", "t10k")):
    write_idx(tmp_path / "mnist" / f"{name}-images-idx3-ubyte", found[part][0])
    write_idx(tmp_path / "mnist" / f"{name}-labels-idx1-ubyte.gz", found[part][1])
  made = layout(config, tmp_path, domains="mnist")
  example = made.examples("mnist")[40]
  assert (example.name, example.label) == ("mnist/test/000007", 2)
  np.testing.assert_array_equal(decode(made.read(example)), found["test"][0][7])
  (tmp_path / "mnist" / "t10k-images-idx3-ubyte").unlink()
  with pytest.raises(UserError, match="there is no t10k-images-idx3-ubyte"):
    layout(config, tmp_path, domains="mnist").examples("mnist")


@pytest.fixture
def five(tmp_path):
  mnist_mat(tmp_path)
  mnist_m_mat(tmp_path)
  house_numbers(tmp_path)
  syn_mat(tmp_path)
  usps_mat(tmp_path)
  return tmp_path


def test_all_five_published(config, five, caplog):
  with caplog.at_level(logging.INFO, "dgjax"):
    dataset = data.load(config("digit_five", dir=str(five)), 0)
  assert dataset.domains == FIVE and dataset.classes == tuple("0123456789") and dataset.source_test
  assert dataset.splits["svhn"] == {"train": 29, "val": 4, "test": 12}
  assert dataset.splits["usps"] == {"train": 4 * 29, "val": 4, "test": 12}
  assert (dataset.mean, dataset.std, dataset.channels) == ((0.5,) * 3, (0.5,) * 3, 3)
  assert dataset.open("mnist", "test")[3]["image"].shape == (28, 28, 3)  # grey ones are decoded as colour
  for name in ("mnist_data.mat", "mnistm_with_label.mat", "train_32x32.mat and", "syn_number.mat", "usps_28x28.mat"):
    assert name in caplog.text
  assert layout(config, five, domains="optdigits, mnist").domains == ("mnist", "optdigits")


def test_only_mnist(config, little_mnist, caplog):
  with caplog.at_level(logging.INFO, "dgjax"):
    dataset = data.load(config("digit_five", dir=str(little_mnist), rendered=(40, 20)), 0)
  assert dataset.domains == ("mnist", "mnist_m", "synthetic", "optdigits")
  assert {domain: tuple(splits.values()) for domain, splits in dataset.splits.items()} == {
    "mnist": (216, 24, 60), "mnist_m": (216, 24, 60), "synthetic": (36, 4, 20), "optdigits": (1293, 144, 360)}
  assert dataset.open("mnist_m", "train")[0]["image"].shape == (28, 28, 3)
  assert dataset.open("synthetic", "train")[0]["image"].shape == (32, 32, 3)
  for line in ("digit_five/svhn is left out: there is no train_32x32.mat nor svhn_train_32x32.mat in",
               "digit_five/usps is left out: there is no usps_28x28.mat nor zip.train in",
               "blended with scikit-learn's two photographs", "digits rendered from matplotlib's fonts"):
    assert line in caplog.text


def test_without_mnist(config, tmp_path):
  usps_text(tmp_path)
  assert layout(config, tmp_path).domains == ("synthetic", "usps", "optdigits")


def test_a_prepared_domain_lets_go_of_its_images(config, five):
  made = layout(config, five, domains="svhn")
  made.read(made.examples("svhn")[0])
  assert made.forms["svhn"]._held
  made.release("svhn")
  assert not made.forms["svhn"]._held


def test_sampling(config, five, monkeypatch):
  monkeypatch.setattr(digit_five, "TRAIN", 20)
  monkeypatch.setattr(digit_five, "TEST", 8)

  def split(domain, seed=0, **keys):
    made = layout(config, five, val_fraction=0.25, **keys)
    return made.split(domain, made.examples(domain), seed)

  for domain in ("svhn", "synthetic"):
    found = split(domain)
    assert sorted([*found["train"], *found["val"]]) == list(range(20)) and len(found["val"]) == 5
    assert found["test"].tolist() == list(range(33, 41))
  for domain in ("mnist", "mnist_m"):
    found, again, other = split(domain), split(domain), split(domain, seed=1)
    chosen = sorted([*found["train"], *found["val"]])
    assert len(set(chosen)) == 20 and max(chosen) < 33 and chosen != list(range(20))
    assert {name: part.tolist() for name, part in found.items()} == {n: part.tolist() for n, part in again.items()}
    assert chosen != sorted([*other["train"], *other["val"]])
    assert found["test"].tolist() == list(range(33, 41))
  found = split("usps")
  assert np.bincount(found["train"])[np.unique(found["train"])].tolist() == [4] * 15
  assert not set(found["train"]) & set(found["val"]) and (np.diff(found["train"]) >= 0).all()
  found = split("usps", sampling="all")
  assert {name: len(part) for name, part in found.items()} == {"train": 24, "val": 9, "test": 12}
  for sampling in digit_five.SAMPLINGS:
    for domain in ("usps", "mnist"):
      found = split(domain, per_domain=6, sampling=sampling)
      assert {name: len(part) for name, part in found.items()} == {"train": 4, "val": 2, "test": 6}
      assert len(np.unique(found["train"])) == 4 and found["train"].dtype == np.int32


def test_split_names_tell_settings_apart(config, five):
  names = {layout(config, five, **keys).split_name(0) for keys in (
    {}, {"sampling": "all"}, {"per_domain": 5}, {"val_fraction": 0.2})}
  assert len(names) == 4


def test_blend_against_a_loop():
  rng = np.random.default_rng(0)
  digit, patch = rng.integers(0, 256, (5, 6), dtype=np.uint8), rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
  got = blended.blend(digit, patch)
  for y in range(5):
    for x in range(6):
      for channel in range(3):
        assert got[y, x, channel] == abs(int(patch[y, x, channel]) - int(digit[y, x]))


def test_mnist_m_is_made_the_same_every_time(config, little_mnist):
  first, second = (layout(config, little_mnist, domains="mnist_m, mnist") for _ in range(2))
  examples = first.examples("mnist_m")
  assert examples == second.examples("mnist_m")
  for number in (299, 3, 0):
    assert first.read(examples[number]) == second.read(examples[number])
  assert first.read(examples[0]) != first.read(examples[240])  # number 0 to test on


def test_mnist_m_with_a_folder_of_photographs(config, little_mnist, tmp_path):
  """Every patch is of one of the photographs, and shows where the digit is black."""
  (tmp_path / "more").mkdir()
  grey = {80: "a.png", 160: "more/b.jpg"}
  for level, name in grey.items():
    Image.new("RGB", (40 + level, 60), (level, level, 100)).save(tmp_path / name)
  (tmp_path / "notes.txt").write_text("no photograph")
  made = layout(config, little_mnist, domains="mnist_m", photographs=str(tmp_path))
  assert "2 photographs" in made.forms["mnist_m"].what
  digits_of = layout(config, little_mnist, domains="mnist").forms["mnist"].images("train")
  examples, seen = made.examples("mnist_m"), set()
  for number in range(20):
    pixels = decode(made.read(examples[number])).astype(int)
    level = min(grey, key=lambda level: np.abs(np.abs(level - digits_of[number].astype(int)) - pixels[..., 0]).sum())
    np.testing.assert_allclose(pixels[..., 0], np.abs(level - digits_of[number].astype(int)), atol=2)
    np.testing.assert_allclose(pixels[..., 2], np.abs(100 - digits_of[number].astype(int)), atol=2)
    seen.add(level)
  assert seen == set(grey)
  stamp = made.forms["mnist_m"].stamp()
  Image.new("RGB", (50, 50)).save(tmp_path / "c.png")
  assert layout(config, little_mnist, domains="mnist_m", photographs=str(tmp_path)).forms["mnist_m"].stamp() != stamp


def test_large_photographs_are_shrunk_and_many_are_thinned_out(config, little_mnist, tmp_path, monkeypatch):
  monkeypatch.setattr(blended, "MOST", 2)
  for number in range(5):
    Image.new("RGB", (1000, 700), (50 * number, 0, 0)).save(tmp_path / f"{number}.png")
  form = layout(config, little_mnist, domains="mnist_m", photographs=str(tmp_path)).forms["mnist_m"]
  assert [path.name for path in form.paths] == ["0.png", "3.png"]
  assert [photograph.shape for photograph in form._photographs("")] == [(448, 640, 3)] * 2


@pytest.mark.parametrize("name,content,message", [
  (None, b"", "config.data.photographs: there is no image in"),
  ("a.jpg", b"no image", "cannot read photograph .*a.jpg .*: replace or remove the file"),
  ("a.png", (20, 90), "photograph .*a.png is smaller than 28 x 28 pixels")])
def test_bad_photographs(config, little_mnist, tmp_path, name, content, message):
  if isinstance(content, tuple):
    Image.new("RGB", content).save(tmp_path / name)
  elif name:
    (tmp_path / name).write_bytes(content)
  with pytest.raises(UserError, match=message):
    made = layout(config, little_mnist, domains="mnist_m", photographs=str(tmp_path))
    made.read(made.examples("mnist_m")[0])
  with pytest.raises(UserError, match="there is no folder .*photographs"):
    layout(config, little_mnist, domains="mnist_m", photographs=str(tmp_path / "absent"))


def test_rendered_digits():
  first, second = rendered.Rendered((200, 50)), rendered.Rendered((400, 50))
  assert np.bincount(first.labels("train")).tolist() == [20] * 10
  drawn = [first.encoded("train", number) for number in range(200)]
  assert len(set(drawn)) == 200 and drawn[7] == second.encoded("train", 7) != second.encoded("test", 7)
  spread = []
  for encoded in drawn:
    pixels = decode(encoded).astype(int)
    assert pixels.shape == (32, 32, 3)
    spread.append(pixels.mean(-1)[8:24, 8:24].std())
  assert np.mean(spread) > 20 and np.min(spread) > 4  # ink stands out in the middle
  assert len(rendered.usable()) >= 20 and not any(path.name in fonts.NO_TEXT for path in rendered.usable())


def test_a_rendered_digit_is_in_the_middle(monkeypatch):
  """Without the variations and neighbours it is what `fonts.draw` draws."""
  class Plain:
    def random(self):
      return 0.9

    def uniform(self, low, high, size=None):
      if size == (2, 3):
        return np.array([[255.0] * 3, [0.0] * 3])
      return np.zeros(size) if size else {rendered.SCALE: 1.0}.get((low, high), 0.0)

    def normal(self, mean, deviation, size):
      return np.zeros(size)

  font = fonts.scaled(fonts.bundled() / "DejaVuSans.ttf", rendered.DIGITS)
  got = rendered.draw(font, "5", Plain())
  wanted = fonts.draw(font, "5", 0.0, 0.0, np.random.default_rng(0))
  assert (got == got[..., :1]).all()
  assert np.abs(got[..., 0].astype(int) - wanted).mean() < 6  # by half a pixel of the oversampled ones


@pytest.mark.parametrize("values", [
  np.eye(10)[[3, 0, 9]], np.array([[3], [10], [9]]), np.array([[3, 0, 9]], np.uint8), np.array([3.0, 10.0, 9.0])])
def test_labels_of_every_shape(values, tmp_path):
  assert forms.as_labels(values, tmp_path).tolist() == [3, 0, 9]


@pytest.mark.parametrize("values", [np.array([11]), np.array([0.5]), np.array([-1]), np.ones((2, 3))])
def test_what_is_no_label(values, tmp_path):
  with pytest.raises(UserError, match=f"{tmp_path} does not hold digits' labels"):
    forms.as_labels(values, tmp_path)


def test_files_of_version_7_3(tmp_path):
  path = tmp_path / "x.mat"
  path.write_bytes(b"MATLAB 7.3 MAT-file, made by a test".ljust(124) + b"\x00\x02IM" + bytes(400))
  with pytest.raises(UserError, match=f"{path} is a MATLAB file of version 7.3, which is not read: save it again with"):
    matlab.read(path, "X")


@pytest.mark.parametrize("damage", [
  lambda content: content[:len(content) // 2], lambda content: b"", lambda content: b"no MATLAB file at all" * 20,
  lambda content: content[:150] + bytes(100) + content[250:]])
@pytest.mark.parametrize("compress", [False, True])
def test_damaged_files(config, tmp_path, damage, compress):
  house_numbers(tmp_path, do_compression=compress)
  path = tmp_path / "train_32x32.mat"
  path.write_bytes(damage(path.read_bytes()))
  with pytest.raises(UserError, match=f"{path} .*: .*fetch it again") as error:
    made = layout(config, tmp_path, domains="svhn")
    for example in made.examples("svhn"):
      made.read(example)
  assert "\n" not in str(error.value)


def test_files_of_something_else(config, tmp_path):
  def read(domain):
    made = layout(config, tmp_path, domains=domain)
    return made.read(made.examples(domain)[0])

  house_numbers(tmp_path)
  savemat(tmp_path / "train_32x32.mat", {"y": np.arange(5)})
  with pytest.raises(UserError, match="train_32x32.mat holds no variable 'X'"):
    read("svhn")
  savemat(tmp_path / "train_32x32.mat", {"X": np.zeros((32, 32, 3, 4), np.uint8), "y": np.arange(5)})
  with pytest.raises(UserError, match="train_32x32.mat holds 4 images and 5 labels: fetch it again"):
    read("svhn")
  savemat(tmp_path / "train_32x32.mat", {"X": np.zeros((32, 32, 4, 5), np.uint8), "y": np.arange(5)})
  with pytest.raises(UserError, match=r"train_32x32.mat holds an array \(5, 32, 32, 4\) that is no images"):
    read("svhn")
  savemat(tmp_path / "usps_28x28.mat", {"dataset": np.zeros((2, 2))})
  with pytest.raises(UserError, match="usps_28x28.mat: its variable 'dataset' is no cell array of 2 x 2"):
    read("usps")
  (tmp_path / "usps_28x28.mat").unlink()
  usps_plain(tmp_path)
  for text, message in (("1 2 3\n", "does not hold a label and 256 values a line"), ("1 2\n3\n", "cannot read"),
                        ("a b\n", "cannot read"), ("", "does not hold a label")):
    (tmp_path / "zip.train").write_text(text)
    with pytest.raises(UserError, match=f"{tmp_path}/zip.train.*{message}|cannot read {tmp_path}/zip.train"):
      read("usps")
  (tmp_path / "zip.test").unlink()
  with pytest.raises(UserError, match="zip.train but no zip.test nor zip.test.gz: fetch it too"):
    read("usps")
  (tmp_path / "test_32x32.mat").unlink()
  with pytest.raises(UserError, match="train_32x32.mat but no .*test_32x32.mat: fetch it too"):
    read("svhn")


def test_ganins_lists(config, tmp_path):
  mnist_m_folders(tmp_path)
  listed = tmp_path / "mnist_m" / "mnist_m_train_labels.txt"
  missing = tmp_path / "mnist_m" / "mnist_m_train" / "00000005.png"
  missing.unlink()
  keys = {"dir": str(tmp_path), "domains": "mnist_m"}
  with pytest.raises(UserError, match=f"cannot read image {missing} .*: replace or remove the file, or set config"):
    data.load(config("digit_five", **keys), 0)
  dataset = data.load(config("digit_five", on_error="skip", **keys), 0)
  assert dataset.splits["mnist_m"]["train"] + dataset.splits["mnist_m"]["val"] == 32
  listed.write_text(listed.read_text() + "00000033.png 10\n")
  with pytest.raises(UserError, match=f"{listed} line 34: expected `file label`, got '00000033.png 10': mend the line"):
    data.load(config("digit_five", **keys), 0)
  (tmp_path / "mnist_m" / "mnist_m_test_labels.txt").unlink()
  with pytest.raises(UserError, match=r"cannot read .*mnist_m_test_labels.txt \(No such file or directory\): replace"):
    layout(config, **{"root": tmp_path, "domains": "mnist_m"}).forms["mnist_m"].labels("test")


@pytest.mark.parametrize("keys,message", [
  ({"sampling": "m3dsa"}, r"unknown config\.data\.sampling 'm3dsa' \(did you mean 'm3sda'"),
  ({"per_domain": -1}, r"config\.data\.per_domain must be at least 0, got -1"),
  ({"rendered": (9, 20)}, r"config\.data\.rendered must be two numbers of at least 10, .*got \(9, 20\)"),
  ({"domains": "mnist,uspss"}, r"config\.data\.domains names 'uspss', no domain of digit_five \(did you mean 'usps'"),
  ({"domains": "mnist,svhn"}, r"config\.data\.domains names 'svhn', but there is no train_32x32\.mat nor .*: put it"),
  ({"val_fraction": 1.0}, r"config\.data\.val_fraction must be in \[0, 1\)")])
def test_bad_settings(config, little_mnist, keys, message):
  with pytest.raises(UserError, match=message):
    layout(config, little_mnist, **keys)


def test_mnist_m_without_mnist(config, tmp_path):
  with pytest.raises(UserError, match="names 'mnist_m', but there is no mnistm_with_label.mat nor mnist_m_train_labels"
                                      r"\.txt in .*, and no MNIST to make it from"):
    layout(config, tmp_path, domains="mnist_m")


def test_real_digits(config, mnist):
  """Reads a few; preparing all takes a minute."""
  made = layout(config, mnist)
  assert made.domains == ("mnist", "mnist_m", "synthetic", "optdigits")
  for domain in ("mnist", "mnist_m"):
    examples = made.examples(domain)
    split = made.split(domain, examples, 0)
    assert {name: len(chosen) for name, chosen in split.items()} == {"train": 22500, "val": 2500, "test": 9000}
    assert (examples[60000].name, examples[60000].label) == (f"{domain}/test/000000", 7)
  digit = made.forms["mnist"].images("test")[0].astype(int)
  pixels = decode(made.read(examples[60000])).astype(int)
  assert pixels.shape == (28, 28, 3)
  ground = made.forms["mnist_m"]._photographs("")
  assert any((np.abs(patch - digit[..., None]) == pixels).all()
             for photograph in ground for patch in patches(photograph.astype(int), digit, pixels))


def patches(photograph, digit, pixels):
  """The places of a photograph whose corner pixel fits, since a digit's corner is black."""
  height, width = digit.shape
  fits = (photograph[: -height + 1, : -width + 1] == pixels[0, 0]).all(-1)
  for y, x in np.argwhere(fits):
    yield photograph[y : y + height, x : x + width]
