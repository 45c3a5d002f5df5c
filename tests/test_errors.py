import os

from dgjax.errors import printable


def test_text_that_moves_the_cursor_or_hides_itself_is_spelled_out():
  assert printable("\x1b[2Jred\x07 \u202egpj.exe") == r"\x1b[2Jred\x07 \u202egpj.exe"
  assert printable(os.fsdecode(b"caf\xe9")) == r"caf\udce9"
  assert printable("a\rb") == r"a\rb"


def test_text_of_any_language_is_left_alone():
  text = "Zürich 東京 \t ∑ 🙂\nnext line"
  assert printable(text) == text
