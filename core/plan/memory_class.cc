#include "core/plan/memory_class.h"

namespace penstock {

const char* MemoryClassName(MemoryClass memory_class) {
  switch (memory_class) {
    case MemoryClass::kParameter:
      return "parameter";
    case MemoryClass::kGradient:
      return "gradient";
    case MemoryClass::kOptimizer:
      return "optimizer";
    case MemoryClass::kActivation:
      return "activation";
    case MemoryClass::kCommunication:
      return "communication";
    case MemoryClass::kWorkspace:
      return "workspace";
  }
  return "unknown";
}

}  // namespace penstock
