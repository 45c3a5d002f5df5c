"""Settings of every test: eight CPU devices, strict shapes, a cache of its own."""

import atexit
import importlib.metadata
import os
import shutil
import tempfile

FLAGS = ["--xla_force_host_platform_device_count=8"]
if importlib.metadata.version("jaxlib").startswith("0.10."):  # an unknown flag ends the process, and 0.12 lacks one
  # Most of the tests' time is compilation, which takes a quarter with these.
  FLAGS += ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *FLAGS])
os.environ["DGJAX_CACHE"] = tempfile.mkdtemp(prefix="dgjax-tests-")
atexit.register(shutil.rmtree, os.environ["DGJAX_CACHE"], ignore_errors=True)

import jax
from absl import flags

jax.config.update("jax_numpy_rank_promotion", "raise")
# Many tests start from the same initial state, whose random draws take seconds to compile.
jax.config.update("jax_compilation_cache_dir", os.path.join(os.environ["DGJAX_CACHE"], "xla"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
# Runs of the command line, in processes of their own, are fully optimised.
jax.config.update("jax_disable_most_optimizations", True)
flags.FLAGS.mark_as_parsed()  # grain and TFDS read absl flags, which only a command parses
