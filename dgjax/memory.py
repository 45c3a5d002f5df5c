"""Memory of a process on a CPU: huge pages for its arrays, freed memory kept, and the least that it must be allowed."""
import ctypes
import glob
import os
import pathlib
import resource
import sys

from dgjax.errors import UserError

TUNABLES = "GLIBC_TUNABLES"
HUGE = "glibc.malloc.hugetlb"
STARTED_ANEW = "DGJAX_HUGE_PAGES"  # set for the new start alone; its value: the tunables before
POLICY = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
ACCELERATORS = ("/dev/nvidia*", "/dev/kfd", "/dev/accel*", "/dev/vfio/[0-9]*")  # NVIDIA and AMD GPUs, TPUs
COMMANDS = ("dgjax", "dgjax.main")  # names of the script, and of the module under `python -m`
OPTIONS_WITH_VALUE = ("-X", "-W", "--check-hash-based-pycs")
LEAST_ADDRESSES = 3_000_000 << 10  # bytes; with 2,500,000 KiB the digits' run was ended by XLA, with 2,000,000 it hung
MALLOC_CHOICES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")  # glibc's own variables
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, NEVER = -1, -3, 2 ** 31 - 1  # of glibc's mallopt; bytes, the most it takes
ASYNC, DEVICE_COUNT = "jax_cpu_enable_async_dispatch", "--xla_force_host_platform_device_count"
_started_anew = False  # set by the new start; the environment no longer has it


def use_huge_pages(script: str = "") -> None:
  """Starts the running command anew with huge pages for its memory, if the system leaves that choice to programs.

  XLA's CPU backend allocates a step's temporaries anew each time, hundreds of MB in one piece. The system clears and
  maps them page by page: 80,000 times in a step of ResNet-18, which takes at least a tenth of its time
  (docs/performance.md). With pages of 2 MB it is 500 times. glibc can ask for them from version 2.35 on, but reads its
  setting only when a process starts. Hence the new start, in the same process and with the same arguments. Call this
  before jax is imported.

  The rule: a new start happens only if all of these hold.
  - Python was started to run nothing but the command: `dgjax ...`, `python -m dgjax.main ...` or `python SCRIPT ...`.
    A debugger, a profiler, coverage, `python -c`, `python -`, a notebook and a program that calls the command are none
    of these, and nothing traces the program.
  - The machine has no GPU or TPU, where memory on the host does not matter.
  - The system is Linux and gives huge pages to programs that ask ("madvise"): not to all ("always"), not to none.
  - `GLIBC_TUNABLES` does not name `glibc.malloc.hugetlb`: 0 keeps small pages.

  The new start restores the environment, so that processes which it starts inherit nothing.

  Args:
    script: path of the running script, `__file__`, for other programs than the command.
  """
  global _started_anew
  if STARTED_ANEW in os.environ:
    _started_anew = True
    before = os.environ.pop(STARTED_ANEW)
    if before:
      os.environ[TUNABLES] = before
    else:
      os.environ.pop(TUNABLES, None)
    return
  tunables = os.environ.get(TUNABLES, "")
  if _started_anew or HUGE in tunables or not _is_top_program(script) or any(map(glob.glob, ACCELERATORS)):
    return
  try:
    if not sys.platform.startswith("linux") or "[madvise]" not in POLICY.read_text():
      return
  except OSError:
    return
  sys.stdout.flush()
  sys.stderr.flush()
  environment = {**os.environ, STARTED_ANEW: tunables, TUNABLES: ":".join(filter(None, [tunables, f"{HUGE}=1"]))}
  os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _is_top_program(script: str) -> bool:
  """Whether Python was started to run the command, or `script`, and nothing else runs or traces it."""
  monitoring = getattr(sys, "monitoring", None)  # from Python 3.12 on
  watched = sys.gettrace() or sys.getprofile() or (monitoring and any(map(monitoring.get_tool, range(6))))
  if watched or not sys.executable or sys.flags.interactive or sys.flags.inspect:
    return False
  words = iter(sys.orig_argv[1:])
  for word in words:
    if word == "-m":
      return next(words, "") in COMMANDS
    if not word.startswith("-"):
      return os.path.basename(word) in COMMANDS or (bool(script) and os.path.abspath(word) == os.path.abspath(script))
    if word in OPTIONS_WITH_VALUE:
      next(words, "")
    elif word == "-" or word.startswith("-c") or word.startswith("-m"):
      return False  # "-c" and what is joined to it; "-mNAME" is left alone, too
  return False


def keep_freed_memory() -> None:
  """Keeps what a step frees for the next step, on a machine without a GPU or TPU.

  XLA allocates a step's temporaries in one piece of hundreds of MB, which glibc takes from the system anew each time:
  clearing it took a tenth of a step of ResNet-18 (docs/performance.md). Two settings let it be taken from what the
  process has already: glibc neither maps large blocks apart nor returns them, and JAX runs programs in the thread that
  calls them, because only the main thread's memory can grow to such sizes. Call this before JAX is used.

  Nothing happens where the C library is another one, or where the environment has `MALLOC_MMAP_THRESHOLD_` or
  `MALLOC_TRIM_THRESHOLD_`. Programs stay in threads of their own where the environment has
  `JAX_CPU_ENABLE_ASYNC_DISPATCH`, and where several devices or processes compute together: one that ran in the calling
  thread would wait there for the others, which have not been called.
  """
  if any(map(glob.glob, ACCELERATORS)) or any(name in os.environ for name in MALLOC_CHOICES):
    return
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
  if mallopt is None or not sys.platform.startswith("linux"):
    return
  for setting in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
    mallopt(setting, NEVER)
  import jax  # here, because a new start should come before what takes time to import
  several = (DEVICE_COUNT in os.environ.get("XLA_FLAGS", "") or jax.distributed.is_initialized()
             or jax.config.jax_num_cpu_devices > 1)  # type: ignore[attr-defined]
  if ASYNC.upper() not in os.environ and not several:
    jax.config.update(ASYNC, False)


def check_addresses() -> None:
  """Refuses to go on if the limit of addresses is too low for the threads of JAX and ArrayRecord.

  Each thread reserves some megabytes of addresses that it never uses. If addresses run out, ArrayRecord waits forever
  for threads that could not be started.

  Raises:
    UserError: the limit is too low; the message names it.
  """
  allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
  if allowed != resource.RLIM_INFINITY and allowed < LEAST_ADDRESSES:
    raise UserError(f"the process may use {allowed >> 10} KiB of addresses (ulimit -v), and its threads alone reserve "
                    f"about {LEAST_ADDRESSES >> 10}: set ulimit -v unlimited, and limit memory by the job or container")
