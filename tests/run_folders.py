"""Folders of runs, made by hand: no test of tables or reports has to train."""

import json

PACS = ("art_painting", "cartoon", "photo", "sketch")


def write(folder, method="dmg", target="sketch", seed=0, accuracy=0.7, dataset="pacs", domains=PACS, source_test=False,
          **config):
  """A run's folder as training leaves it."""
  sources = [domain for domain in domains if domain != target]
  nested = {"seed": seed, "target": target, "algorithm": {"name": method, "prediction": "default"},
            "optimizer": {"name": "adam"}, "model": {"name": "resnet18", "weights": "published"}, "epochs": 50,
            "data": {"name": dataset, "image_size": 224, "dir": str(folder)}}
  for key, value in config.items():
    *sections, name = key.split("__")
    place = nested
    for section in sections:
      place = place.setdefault(section, {})
    place[name] = value
  scores = {target: accuracy, **({source: 0.5 for source in sources} if source_test else {})}
  modes, by_class = {"default": scores}, {"default": {target: accuracy / 2}}
  if method == "dmg":
    modes = {"pred_ens": scores, "mask_ens": {k: v - 0.01 for k, v in scores.items()},
             "known": {k: v + 0.04 for k, v in scores.items() if k != target}}
    nested["algorithm"]["prediction"] = "pred_ens"
  selection = {rule: {"step": 10, "target_accuracy": accuracy + extra, "source_accuracy": 0.9}
               for rule, extra in (("source_val", 0.0), ("last", -0.1), ("target_oracle", 0.1))}
  results = {"config": nested, "method": method, "dataset": dataset, "sources": sources, "target": target, "seed": seed,
             "step": 10, "selection": selection, "report": {"rule": "source_val", "step": 10}, "accuracy": modes,
             "class_accuracy": by_class,
             "command": f"python -m dgjax.main --config.target={target} --config.seed={seed}"}
  folder.mkdir(parents=True)
  (folder / "config.json").write_text(json.dumps(nested))
  (folder / "results.json").write_text(json.dumps(results))


def evaluations(folder, *lines):
  """Writes evaluations, (step, source validation, target validation, pred_ens and mask_ens on the target)."""
  records = [{"step": step, "val/photo/accuracy": val, "val/art_painting/accuracy": val, "val/cartoon/accuracy": val,
              "test/sketch/accuracy": pred, "target_val/sketch/accuracy/pred_ens": target_val,
              "target_val/sketch/accuracy/mask_ens": 1 - target_val, "test/sketch/accuracy/pred_ens": pred,
              "test/sketch/accuracy/mask_ens": mask, "val/photo/accuracy/known": val,
              "test/sketch/accuracy/member/0": 0}
             for step, val, target_val, pred, mask in lines]
  (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
