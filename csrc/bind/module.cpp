// Importing genfast._C runs the op registrations of bind/*.cpp; pybind11 carries what is not a tensor op.
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>

#include "../kernels/device.h"
#include "../kernels/isa.h"
#include "../math/philox.h"
#include "../math/step.h"
#include "raw.h"
#include "run.h"

namespace {

constexpr const char* kIsaNames[] = {"scalar", "avx2", "avx512"};

std::string name(genfast::Isa isa) { return kIsaNames[static_cast<int>(isa)]; }

void set_isa(const std::string& wanted) {
  for (int i = 0; i < 3; ++i)
    if (wanted == kIsaNames[i]) {
      if (i > static_cast<int>(genfast::best_isa()))
        throw std::invalid_argument("GENFAST_ISA: this processor has no " + wanted + ", the widest it has is " +
                                    name(genfast::best_isa()));
      return genfast::set_isa(static_cast<genfast::Isa>(i));
    }
  throw std::invalid_argument("GENFAST_ISA must be scalar, avx2 or avx512; got " + wanted);
}

pybind11::dict build_info() {
  pybind11::dict info;
#if defined(GENFAST_CUDA)
  info["cuda"] = GENFAST_CUDA;  // the architectures
#else
  info["cuda"] = "";
#endif
#if defined(GENFAST_EMULATE)
  info["emulated"] = true;
#else
  info["emulated"] = false;
#endif
  info["slots"] = genfast::kSlots;  // how a plan lies in memory, for the Python that packs it
  info["step_columns"] = genfast::kStepColumns;
  return info;
}

pybind11::tuple philox(uint64_t seed, uint32_t x, uint32_t y, uint32_t z, uint32_t w) {
  const genfast::Words r = genfast::philox(seed, x, y, z, w);
  return pybind11::make_tuple(r.x, r.y, r.z, r.w);
}

}  // namespace

PYBIND11_MODULE(GENFAST_MODULE, m) {
  m.def("build_info", &build_info);
  m.def("philox", &philox, "The four words of Philox4x32-10 for a seed (key) and a counter.");
  m.def("isa", [] { return name(genfast::isa()); });
  m.def("best_isa", [] { return name(genfast::best_isa()); });
  m.def("set_isa", &set_isa);
  if (!genfast::add_raw_ops(m.def_submodule("raw", "Ops past torch's dispatcher: see raw.h.").ptr()))
    throw pybind11::error_already_set();
#if defined(GENFAST_EMULATE)
  m.def("set_emulating", [](bool on) { genfast::emulating = on; }, "Whether CPU tensors go through the CUDA twins.");
  m.def("set_shared_memory", &genfast::cuda::set_shared_memory, "Bytes that a block of the emulated device may have.");
#endif
}
