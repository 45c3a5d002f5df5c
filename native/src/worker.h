// One thread of ours runs every operation, and owns the team of threads that shares the work.
#ifndef DGJAX_NATIVE_WORKER_H_
#define DGJAX_NATIVE_WORKER_H_

#include <functional>

namespace dgjax {

// Runs `task` on the worker thread and waits for it.
//
// XLA calls foreign functions from any thread of its pool. OpenMP keeps a team of threads for each thread that enters a
// parallel region, so calling oneDNN from there would leave as many teams as XLA has threads, fighting for the cores;
// and two operations at once gain nothing over one after the other, each on all cores. Plans and scratch memory, touched
// by this thread alone, need no locks.
void RunOnWorker(const std::function<void()>& task);

// Threads that share one operation: DGJAX_NATIVE_THREADS, or NPROC, or the cores this process may use.
int Threads();

// While one lives on the worker thread, the team has `threads`.
class Team {
 public:
  explicit Team(int threads);
  ~Team();
  Team(const Team&) = delete;
};

// While one lives on the worker thread, every thread of the team has a core of its own (where there are as many).
//
// Some of oneDNN's code, the filter gradient above all, meets at barriers that spin. Where a busy machine's
// scheduler leaves two of the team on one core, each barrier costs a whole time slice: 260 ms instead of 20. Other code is
// better left to the scheduler, which can move a thread away from a core that another process uses.
class Spread {
 public:
  Spread();
  ~Spread();
  Spread(const Spread&) = delete;

 private:
  const bool on_;
};

}  // namespace dgjax

#endif  // DGJAX_NATIVE_WORKER_H_
