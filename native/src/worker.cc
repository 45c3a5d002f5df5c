#include "worker.h"

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

namespace dgjax {
namespace {

struct Task {
  const std::function<void()>& run;
  std::exception_ptr error = nullptr;
  bool done = false;
};

struct Queue {
  std::mutex mutex;
  std::condition_variable filled, finished;
  std::deque<Task*> tasks;
};

void Work(Queue* queue) {
  omp_set_num_threads(Threads());
  std::unique_lock<std::mutex> lock(queue->mutex);
  for (;;) {
    queue->filled.wait(lock, [&] { return !queue->tasks.empty(); });
    Task* task = queue->tasks.front();
    queue->tasks.pop_front();
    lock.unlock();
    try {
      task->run();
    } catch (...) {
      task->error = std::current_exception();
    }
    lock.lock();
    task->done = true;
    queue->finished.notify_all();
  }
}

Queue* TheQueue() {
  // Never destroyed: the thread lives as long as the process, and computations may still run while it ends.
  static Queue* queue = [] {
    auto* made = new Queue;
    std::thread(Work, made).detach();
    return made;
  }();
  return queue;
}

// The cores this process may use, as they were when first asked for.
const cpu_set_t& Allowed() {
  static const cpu_set_t allowed = [] {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) != 0) CPU_ZERO(&set);
    return set;
  }();
  return allowed;
}

}  // namespace

Team::Team(int threads) { omp_set_num_threads(threads); }
Team::~Team() { omp_set_num_threads(Threads()); }

Spread::Spread() : on_(Threads() > 1 && CPU_COUNT(&Allowed()) == Threads()) {
  if (!on_) return;
#pragma omp parallel
  {
    int skip = omp_get_thread_num(), core = 0;
    while (core < CPU_SETSIZE - 1 && (!CPU_ISSET(core, &Allowed()) || skip-- > 0)) core++;
    cpu_set_t own;
    CPU_ZERO(&own);
    CPU_SET(core, &own);
    sched_setaffinity(0, sizeof(own), &own);
  }
}

Spread::~Spread() {
  if (!on_) return;
#pragma omp parallel
  sched_setaffinity(0, sizeof(cpu_set_t), &Allowed());
}

void RunOnWorker(const std::function<void()>& run) {
  Queue* queue = TheQueue();
  Task task{run};
  std::unique_lock<std::mutex> lock(queue->mutex);
  queue->tasks.push_back(&task);
  queue->filled.notify_one();
  queue->finished.wait(lock, [&] { return task.done; });
  if (task.error) std::rethrow_exception(task.error);
}

int Threads() {
  static const int threads = [] {
    for (const char* name : {"DGJAX_NATIVE_THREADS", "NPROC"})  // the second is XLA's own
      if (const char* text = std::getenv(name); text && std::atoi(text) > 0) return std::atoi(text);
    if (const int cores = CPU_COUNT(&Allowed()); cores > 0) return cores;
    return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  }();
  return threads;
}

}  // namespace dgjax
