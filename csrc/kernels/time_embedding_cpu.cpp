#include "time_embedding_body.h"
#include "with_type.h"

namespace genfast::cpu::GENFAST_ISA {

void time_embedding(const TimeEmbeddingArgs& p, int64_t first, int64_t last) {
  with_type(p.dtype, [&](auto type) {
    for (int64_t row = first; row < last; ++row)
      for (int64_t piece = 0; piece < pieces(p); ++piece) embed<decltype(type)>(p, row, piece);
  });
}

}  // namespace genfast::cpu::GENFAST_ISA
