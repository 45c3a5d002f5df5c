// Loops compiled for several instruction sets, the machine's own being picked when the library is loaded.
#ifndef DGJAX_NATIVE_VECTORISED_H_
#define DGJAX_NATIVE_VECTORISED_H_

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define VECTORISED __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define VECTORISED
#endif

#endif  // DGJAX_NATIVE_VECTORISED_H_
