"""Endless shuffled orders: every epoch is a permutation of its own, made at once as an array.

The permutations are those of `grain.MapDataset.range(length).seed(seed).shuffle().repeat()`, whose index function
answers for one position at a time, in microseconds each; a group of runs asks for thousands of positions a step.
"""

import functools

import numpy as np

ROUNDS = 4
MIN_BLOCK_BITS = 16  # smaller blocks show patterns
KEPT_EPOCHS = 4  # threads work at neighbouring steps, and a batch may straddle epochs


class Order:
  """The order in which examples are seen."""

  def __init__(self, length: int, seed: int):
    """
    Args:
      length: of an epoch, at least 1.
      seed: in [0, 2**32).
    """
    self.length = length
    # The 1 is the distance of shuffle() from seed() in grain's graph, from which it derives the seed
    self._seed = int(np.random.SeedSequence([seed, 1]).generate_state(1)[0])
    self._epoch = functools.lru_cache(KEPT_EPOCHS)(
        lambda epoch: permutation(self.length, (self._seed + epoch) % 2**32))

  def __getitem__(self, positions: np.ndarray) -> np.ndarray:
    """Returns the indices, in [0, length), at positions of any shape, at least 0 each."""
    if not positions.size:
      return positions
    epochs, within = np.divmod(positions, self.length)
    first, last = int(epochs.min()), int(epochs.max())
    table = np.concatenate([self._epoch(epoch) for epoch in range(first, last + 1)])
    return table[(epochs - first) * self.length + within]


def permutation(length: int, seed: int) -> np.ndarray:
  """Permutes [0, length) by a block cipher that walks its cycles until a value is in range.

  Args:
    length: at least 1.
    seed: in [0, 2**32).

  Returns:
    (length,) int32.

  Source: Black and Rogaway, "Ciphers with Arbitrary Finite Domains" (CT-RSA 2002), on four rounds of the Simon cipher
  (Beaulieu et al., 2013) with a block of as many bits as `length` needs.
  """
  bits = max((length - 1).bit_length(), MIN_BLOCK_BITS)
  # grain takes a block too small for length - 1 = 4**k: its epoch then has one example twice, and lacks another
  cipher = _encrypt((bits + 1) // 2, seed)
  # A step leaves values in range where they are, and takes the others 1, 2, 4, ... places along their cycle
  found, step = cipher[:length], cipher.copy()
  step[:length] = np.arange(length)
  while found.max() >= length:
    found, step = step.take(found), step.take(step)
  return found


def _encrypt(word_bits: int, seed: int) -> np.ndarray:
  """Returns Simon's cipher, a Feistel network, of all values that two words of `word_bits` each make: int32."""
  values, mask, mixed = np.arange(1 << 2 * word_bits, dtype=np.int32), (1 << word_bits) - 1, _mixed(word_bits)
  left, right = values >> word_bits, values & mask
  for key in _round_keys(seed):
    left, right = right, left ^ mixed.take(right) ^ (key & mask)
  return (left << word_bits) | right


@functools.cache
def _mixed(word_bits: int) -> np.ndarray:
  """Returns Simon's round function of all words: int32."""
  word = np.arange(1 << word_bits, dtype=np.int32)
  by_1, by_2, by_8 = (((word << by) | (word >> (word_bits - by))) & ((1 << word_bits) - 1) for by in (1, 2, 8))
  return (by_1 & by_8) ^ by_2


def _round_keys(seed: int) -> list[int]:
  """Returns a 32-bit key for each round: what std::seed_seq{seed} generates (ISO C++, [rand.util.seedseq])."""
  keys = [0x8B8B8B8B] * ROUNDS
  shift, seeds = (ROUNDS - 1) // 2, (1, seed)  # the number of seeds, and the seeds
  near = (ROUNDS - shift) // 2
  for k in range(2 * ROUNDS):
    here, mid, far = k % ROUNDS, (k + near) % ROUNDS, (k + near + shift) % ROUNDS
    if k < ROUNDS:
      mixed = keys[here] ^ keys[mid] ^ keys[k - 1]
      mixed = 1664525 * (mixed ^ mixed >> 27) % 2**32
      added = mixed + (seeds[0] if k == 0 else here + (seeds[k] if k < len(seeds) else 0))
      keys[mid], keys[far] = (keys[mid] + mixed) % 2**32, (keys[far] + added) % 2**32
    else:
      mixed = (keys[here] + keys[mid] + keys[k - 1 - ROUNDS]) % 2**32
      mixed = 1566083941 * (mixed ^ mixed >> 27) % 2**32
      added = mixed - here
      keys[mid], keys[far] = keys[mid] ^ mixed, (keys[far] ^ added % 2**32)
    keys[here] = added % 2**32
  return keys
