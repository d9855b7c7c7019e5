// What csrc/kernels/device.cu says of devices that are not there: a line each.
#include "../../csrc/kernels/device.cu"

static void kernel() {}

int main() {
  fake::devices[0] = {9, 0, 227 << 10};
  fake::devices[1] = {7, 5, 64 << 10, false};
  fake::devices[2] = {8, 6, 99 << 10};
  fake::devices[3] = {8, 0, 0};
  for (int again = 0; again < 2; ++again)
    for (fake::current = 0; fake::current < 4; ++fake::current) {
      const char* why = genfast::cuda::unsupported();
      const size_t bytes = genfast::shared_memory();
      if (!why) genfast::allow_shared(kernel, 100);
      const char* error = genfast::launch_error();
      std::printf("%s, %zu, %d, %s\n", why ? why : "runs", bytes, fake::allowed, error ? error : "no error left");
      fake::allowed = 0;
    }
  for (fake::current = 0; fake::current < 2; ++fake::current) {
    const long long blocks = genfast::resident_blocks(kernel, 512, 0);
    const char* error = genfast::launch_error();
    std::printf("%lld blocks, %s\n", blocks, error ? error : "no error left");
  }
  fake::current = 0;
  genfast::allow_shared(kernel, 0);
  std::printf("%d allowed, %d questions\n", fake::allowed, fake::questions);
}
