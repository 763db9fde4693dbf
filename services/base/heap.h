// How the C library's heap treats the blocks that our wires live on.
//
// Thread-safe: a free function.
#ifndef PENSTOCK_SERVICES_BASE_HEAP_H_
#define PENSTOCK_SERVICES_BASE_HEAP_H_

namespace penstock {

// Keeps freed blocks of up to 32 MiB for the next ones, at most 256 MiB of them. Otherwise glibc gives every chunk of a
// stream back to the kernel as soon as it was sent, and each page of the next chunk costs a fault: about a quarter of
// the time of a push. Once, at the start of a process that pushes or serves tensors.
void KeepFreedBlocks();

}  // namespace penstock

#endif  // PENSTOCK_SERVICES_BASE_HEAP_H_
