import itertools
import json

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dgjax.algorithms.overlap import hard_iou, hard_masks, overlap_report, unit_kinds

DOMAINS = ("art", "photo", "sketch")


def loop_report(probs, domains):
  """Appendix 7.1 with sets of units."""
  on = {d: {k for k, m in enumerate(row) if m > 0.5} for d, row in zip(domains, probs.tolist(), strict=True)}
  k, report = probs.shape[1], {}
  for a, b in itertools.combinations(domains, 2):
    report[f"{a}-{b}"] = (len(on[a] & on[b]) + 1e-6) / (len(on[a] | on[b]) + 1e-6)
  shared, any_on = set.intersection(*on.values()), set.union(*on.values())
  report |= {"on": sum(map(len, on.values())) / len(on) / k, "off": 1 - len(any_on) / k,
             "shared": len(shared) / k, "specific": len(any_on - shared) / k}
  for a in domains:
    others = set.union(*(on[b] for b in domains if b != a))
    report |= {f"on/{a}": len(on[a]) / k, f"exclusive/{a}": len(on[a] - others) / k}
  return report


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 4).flatmap(
    lambda p: st.tuples(*(hnp.arrays(np.float32, st.tuples(st.just(p), st.integers(1, 6)),
                                     elements=st.floats(0, 1, width=32)) for _ in range(2)))))
def test_report_counts_sets_of_units(layers):
  domains = ("a", "b", "c", "d")[:len(layers[0])]
  report = overlap_report({"layer4": layers[0], "fc": layers[1]}, domains)
  pairs = [f"{a}-{b}" for a, b in itertools.combinations(domains, 2)]
  found, means = {}, {}
  for layer, probs in (("layer4", layers[0]), ("fc", layers[1]), ("all", np.concatenate(layers, 1))):
    expected = loop_report(probs, domains)
    means[layer] = sum(expected[pair] for pair in pairs) / len(pairs)
    found |= {f"iou/{layer}/mean": means[layer]}
    found |= {f"{'iou' if key in pairs else 'units'}/{layer}/{key}": value for key, value in expected.items()}
  found["iou/mean"] = (means["layer4"] + means["fc"]) / 2
  assert report == pytest.approx(found, abs=1e-9)
  assert all(0 <= value <= 1 for value in report.values())
  assert sum(report[f"units/all/{kind}"] for kind in ("off", "shared", "specific")) == pytest.approx(1)


def test_report_is_json_and_takes_jax_arrays():
  probs = jnp.array([[0.9, 0.1, 0.6], [0.9, 0.8, 0.5]])
  report = overlap_report({"fc": probs}, DOMAINS[:2])
  assert json.loads(json.dumps(report)) == report
  assert report["iou/fc/art-photo"] == pytest.approx(1 / 3, abs=1e-6)  # a probability of exactly 0.5 is off
  assert report["units/fc/exclusive/art"] == report["units/fc/exclusive/photo"] == pytest.approx(1 / 3)


def test_the_two_overall_means_weigh_layers_or_units():
  same, apart = np.ones((2, 90)), np.array([[1.0], [0.0]]).repeat(10, 1)
  report = overlap_report({"wide": same, "narrow": apart}, DOMAINS[:2])
  assert report["iou/mean"] == pytest.approx(0.5, abs=1e-6)
  assert report["iou/all/mean"] == pytest.approx(0.9, abs=1e-6)


def test_one_domain_has_no_pairs():
  report = overlap_report({"fc": np.array([[0.9, 0.1]])}, ("art",))
  assert not [key for key in report if key.startswith("iou")]
  assert report["units/fc/shared"] == report["units/fc/off"] == 0.5
  assert report["units/fc/specific"] == report["units/fc/exclusive/art"] == 0


def test_masks_that_are_off_everywhere_overlap_fully():
  assert hard_iou(np.zeros((2, 4), bool)) == pytest.approx(np.ones((2, 2)))


def test_no_masked_layer_gives_an_empty_report():
  assert overlap_report({}, DOMAINS) == {}


def test_unit_kinds_of_three_domains():
  on = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]], bool)
  kinds = unit_kinds(on)
  np.testing.assert_array_equal(kinds["shared"], [1, 0, 0, 0])
  np.testing.assert_array_equal(kinds["specific"], [0, 1, 1, 0])
  np.testing.assert_array_equal(kinds["off"], [0, 0, 0, 1])
  np.testing.assert_array_equal(kinds["exclusive"], [[0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize("masks, domains, message", [
    ({"fc": np.zeros((2, 3))}, DOMAINS, "3 domains, but the masks of fc have 2 rows"),
    ({"all": np.zeros((3, 3))}, DOMAINS, "cannot be called 'all'"),
])
def test_misuse_is_named(masks, domains, message):
  with pytest.raises(ValueError, match=message):
    overlap_report(masks, domains)


def test_logits_are_refused():
  with pytest.raises(ValueError, match=r"in \[0, 1\], not \[-3.0, 2.0\]"):
    hard_masks(np.array([[-3.0, 2.0]]))
  with pytest.raises(ValueError, match=r"\(domains, units\)"):
    hard_masks(np.zeros(3))
