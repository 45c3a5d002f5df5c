import csv
import pathlib

import numpy as np
import pytest
from PIL import Image

import dgjax
from dgjax import commands

SUFFIXES = ("png", "jpg", "webp", "bmp", "tiff", "gif")


@pytest.fixture
def images(tmp_path):
  """One image of each format, of different sizes, at different depths."""
  rng = np.random.default_rng(0)
  for number, suffix in enumerate(SUFFIXES):
    folder = tmp_path / "new" / "/".join("ab"[:number % 3])
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (20 + number, 24, 3), dtype=np.uint8)).save(folder / f"{number}.{suffix}")
  (tmp_path / "new" / "notes.txt").write_text("not an image")
  return tmp_path / "new"


def read(path):
  with path.open(newline="") as file:
    return list(csv.DictReader(file))


def test_a_folder_of_any_images(trained, images, tmp_path, capsys):
  out = tmp_path / "far" / "p.csv"
  assert commands.main(["predict", str(trained.folder), str(images), f"--out={out}", "--batch_size=4"]) == 0
  assert capsys.readouterr().out == f"6 images in {out}\n"
  lines, run = read(out), dgjax.load(trained.folder)
  assert list(lines[0]) == ["path", "class", "probability", "vote/photo", "vote/sketch"]
  assert {pathlib.Path(line["path"]).suffix[1:] for line in lines} == set(SUFFIXES)
  pixels = np.stack([run.read_image(pathlib.Path(line["path"])) for line in lines])
  outputs = run.outputs(pixels)
  probs = outputs[run.algorithm.prediction]
  assert [line["class"] for line in lines] == [run.classes[i] for i in probs.argmax(-1)]
  np.testing.assert_allclose([float(line["probability"]) for line in lines], probs.max(-1), atol=1e-5)
  for number, domain in enumerate(run.sources):
    votes = outputs[f"member/{number}"].argmax(-1)
    assert [line[f"vote/{domain}"] for line in lines] == [run.classes[i] for i in votes]


def test_an_image_that_cannot_be_read_is_named(trained, images, tmp_path, capsys):
  (images / "a" / "bad.png").write_bytes(b"no image")
  (images / "lost.jpg").symlink_to(tmp_path / "nowhere.jpg")
  (tmp_path / "p.csv").write_text("as it was")
  arguments = ["predict", str(trained.folder), str(images), f"--out={tmp_path / 'p.csv'}"]
  assert commands.main(arguments) == 1
  assert capsys.readouterr().err == (f"error: cannot read image {images}/a/bad.png (not an image that Pillow reads): "
                                     "remove the file, or use --on_error=skip\n")
  assert (tmp_path / "p.csv").read_text() == "as it was" and not list(tmp_path.glob("*.partial"))
  assert commands.main([*arguments, "--on_error=skip"]) == 0
  out, err = capsys.readouterr()
  assert out.endswith("6 images in " + str(tmp_path / "p.csv") + ", 2 left out\n")
  assert "bad.png (not an image that Pillow reads)" in err and "lost.jpg (a broken link" in err
  assert len(read(tmp_path / "p.csv")) == 6


@pytest.mark.parametrize(("places", "options", "message"), [
    (["absent"], [], "there is no file or folder absent"), (["."], [], "holds no images"),
    ([__file__], [], "cannot read image"), ([__file__], ["--batch_size=0"], "--batch_size is 0: it must be at least 1"),
    ([__file__], ["--rule=best"], "no selection rule 'best'")])
def test_what_cannot_be_predicted(trained, tmp_path, monkeypatch, capsys, places, options, message):
  monkeypatch.chdir(tmp_path)
  assert commands.main(["predict", str(trained.folder), *places, "--out=p.csv", *options]) == 1
  assert message in capsys.readouterr().err and not list(tmp_path.iterdir())
